"""The one map from what a provider's error says to its class. No I/O.

A structured code decides, then the status, then phrases; a phrase is believed only where the class that the
status gives is as vague as that phrase's row allows.

Sources: https://platform.openai.com/docs/guides/error-codes, https://platform.claude.com/docs/en/api/errors,
https://ai.google.dev/gemini-api/docs/troubleshooting, and what users of the services have reported in public.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bupple_engine.exceptions import (
    AuthenticationError,
    ConflictError,
    ContentFilteredError,
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderConnectionError,
    ProviderPermissionError,
    ProviderServerError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    StreamError,
)

MAX_TEXT = 8_000  # of what phrases are looked for in

_STATUSES: dict[int, type[EngineError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: ProviderPermissionError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    409: ConflictError,
    410: ModelNotFoundError,
    413: RequestTooLargeError,
    429: RateLimitError,
    498: OverloadedError,  # Groq: capacity exceeded
    503: OverloadedError,
    504: ProviderTimeoutError,
    529: OverloadedError,
}


def canonical(word: str) -> str:
    """Return a code or a reason as it is compared: letters and digits alone, in lower case."""
    return re.sub(r"[\W_]+", "", word.lower())


def _table(rows: Mapping[type[EngineError], str]) -> dict[str, type[EngineError]]:
    return {canonical(word): cls for cls, words in rows.items() for word in words.split()}


# Codes that say more than the status: a bad key may come as a 400, an empty account as a 429.
_TELLING_CODES = _table(
    {
        AuthenticationError: """
            invalid_api_key authentication_error api_key_invalid incorrect_api_key invalid_authentication
            invalid_authentication_error
        """,
        QuotaExceededError: """
            billing_error insufficient_quota insufficient_balance insufficient_credits insufficient_funds
            insufficient_user_quota pre_consume_token_quota_failed not_enough_balance
            exceeded_current_quota_error arrearage account_overdue_error billing_not_active
            payment_required quota_per_day enforced_spend_limit_reached contract_spend_limit_reached
            budget_exceeded
        """,
        RateLimitError: """
            too_many_requests too_many_requests_exception rate_limit_reached throttling_exception
            throttling_error rate_limit_error_exceeded
        """,
        ContextLengthExceededError: """
            context_length_exceeded exceed_context_size_error model_context_window_exceeded
            context_window_exceeded prompt_too_long input_too_long too_many_prompt_tokens
            model_max_prompt_tokens_exceeded max_prompt_tokens_exceeded content_length_exceeds_threshold
            string_above_max_context
        """,
        ContentFilteredError: """
            content_filter content_filtered content_policy_violation invalid_prompt bio_policy
            misalignment_policy_violation image_content_policy_violation responsible_ai_policy_violation
            data_inspection_failed sensitive_words_detected sensitive_content_detected
            input_text_sensitive_content_detected output_text_sensitive_content_detected
            content_moderation moderation_blocked guardrail_intervened flagged_input
        """,
        ModelNotFoundError: """
            model_not_found model_not_exist model_not_supported model_not_available invalid_model
            invalid_model_id unknown_model deployment_not_found invalid_endpoint_or_model.not_found
            model_does_not_exist no_available_channel unsupported_model
        """,
        OverloadedError: """
            overloaded_error server_is_overloaded model_overloaded server_busy engine_overloaded
        """,
        InvalidRequestError: """
            invalid_image invalid_image_format invalid_base64_image invalid_image_url image_too_large
            image_too_small image_parse_error invalid_image_mode image_file_too_large
            unsupported_image_media_type empty_image_file failed_to_download_image image_file_not_found
            data_residency_mismatch
        """,
    }
)

# Codes that say what a status says, for errors inside a stream, which have none.
_STATUS_CODES = _table(
    {
        AuthenticationError: "unauthenticated unauthorized",
        ProviderPermissionError: "permission_error permission_denied forbidden",
        RateLimitError: """
            rate_limit_error rate_limit_exceeded rate_limit resource_exhausted slow_down throttled
            throttling tokens_limit_reached
        """,
        InvalidRequestError: """
            invalid_request_error invalid_argument failed_precondition bad_request bad_request_error
            invalid_request validation_exception validation_error
        """,
        RequestTooLargeError: "request_too_large",
        ModelNotFoundError: "not_found_error not_found",
        ConflictError: "conflict_error",
        ProviderTimeoutError: "timeout_error deadline_exceeded timeout",
        OverloadedError: """
            unavailable unavailable_error service_unavailable service_unavailable_error
            service_unavailable_exception
        """,
        ProviderServerError: """
            server_error api_error internal internal_error internal_server_error internal_server_exception
        """,
    }
)

_MONEY_CODE = re.compile(r"quota|credit|billing|spend|usagelimit|balance|overdue")

# The classes that phrases may make more precise, the vaguest first.
_UNTOLD = frozenset({InvalidRequestError, StreamError})
_VAGUE = _UNTOLD | {ProviderServerError}


class _Phrase(NamedTuple):
    """A class that words alone may tell, and the classes that they may make more precise."""

    cls: type[EngineError]
    over: frozenset[type[EngineError]]
    pattern: re.Pattern[str]


def _phrase(cls: type[EngineError], over: Iterable[type[EngineError]], *patterns: str) -> _Phrase:
    return _Phrase(cls, frozenset(over), re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL))


_EXCEEDS = (
    r"(exceed|too (long|large|big|many)|longer|larger|greater|beyond|fit\b|reduce|shorten|maximum|not enough)"
)
_URL = re.compile(r"\bhttps?://\S+")  # where a message sends its reader says nothing of what went wrong
_NAMED = r"[`'\"«“]?[\w./:@+-]+[`'\"»”]?"  # a model by its name

# In this order: the words of a limit a minute speak of tokens too, those of an empty account of limits.
_PHRASES: tuple[_Phrase, ...] = (
    _phrase(
        # A field that nobody knows, or its value, may be called what another class is known by.
        InvalidRequestError,
        _UNTOLD,
        r"\A[^.:]{0,40}\b(unknown|unrecogni[sz]ed|unexpected|unsupported) ([a-z]+ )?"
        r"(parameter|argument|field|property|key|option)s?\b",
        r"\A[`'\"]?max_[a-z_]*tokens[`'\"]? must be (less|greater|at (least|most))\b",
    ),
    _phrase(
        AuthenticationError,
        _UNTOLD,
        r"\b(incorrect|invalid|wrong|missing) api[ _-]?key",
        r"\blogin fail",
        r"api[ _-]?key (is )?(not valid|not found|invalid|expired|disabled|revoked|suspended)",
    ),
    _phrase(
        QuotaExceededError,
        _VAGUE | {AuthenticationError, ProviderPermissionError, RateLimitError, OverloadedError},
        r"\binsufficient[ _-]((account|user|token|api)[ _-])?(balance|credits?|funds|quota)",
        r"\b(balance|credits?|funds) (is|are|was|has been|have been) "
        r"(not enough|insufficient|too low|exhausted|depleted|used up|empty)",
        r"\bquota is not enough|not enough (balance|credits?|funds)",
        r"\bcredit balance|\bout of (credits?|funds|budget)|\bno (remaining )?credits?\b",
        r"\bout of [a-z ]{0,20}quota|\bused up (all )?your\b|\b(over|exceeded ?)budget\b",
        r"\b(do(es)?n't|do(es)? not) have (any|enough|sufficient) (\w+ )?(credits?|funds|balance)",
        r"\brequires more credits|\b(all|depleted your) [a-z ]{0,20}credits",
        r"\b(spend(ing)?|billing( hard)?|budget|monthly|weekly)( usage| request| token| spending)? "
        r"(limit|cap)\b",
        r"\b(reached|exceeded) your [a-z -]{0,20}usage limit|\busage limit (has been )?(exceeded|reached)",
        r"\bkey limit exceeded|\b(account|payment|bill)[^.]{0,30}(overdue|in arrears|past due)|\barrearage\b",
        r"\baccount is in good standing|\btop[ -]?up (your|to)|\bplease (recharge|top[ -]?up)",
        r"\bpayment required|余额不足|额度不足|欠费|充值|用量上限",
    ),
    _phrase(
        # Google says so of a limit a minute, too, as a 429.
        QuotaExceededError,
        _VAGUE | {ProviderPermissionError},
        r"\bexceeded your (current|monthly) [a-z ]{0,10}quota",
        r"\benable billing|billing (to be|is not|has not been) (enabled|active)|billing (details|issue)",
    ),
    _phrase(RequestTooLargeError, {RateLimitError}, r"\brequest too large for"),
    _phrase(
        RateLimitError,
        _VAGUE | {ProviderPermissionError, OverloadedError},
        r"\brate exceeded\b|\btoo many (concurrent )?requests",
        r"\brate[ _-]?limit(s|ed|ing)?\b|\bthrottl(ed|ing)\b",
        r"\b(requests?|tokens?|queries) per (minute|min|second|hour|day)\b|\b(TPM|RPM|QPS) limit",
        r"\bconcurren(t|cy)[a-z ]{0,20} (limit|exceeded)|\brequest rate increased",
        r"\btoo many tokens, please wait|\bwait before (trying|retrying)|\bresource (has been )?exhausted",
        r"\bslow(er)? down\b|速率限制|请求过于频繁|请求过多|并发",
    ),
    _phrase(
        ContextLengthExceededError,
        _VAGUE | {RequestTooLargeError},
        rf"\A(?=.*\bcontext[ _-]?(length|window|size|limit|overflow))(?=.*{_EXCEEDS})",
        r"\bmaximum (context|prompt|sequence)( length| size| window)",
        r"\bmaximum (allowed )?(input|prompt) length|\bmaximum model length",
        r"\btoo many (input |prompt )?tokens",
        r"\b(prompt|input|conversation)s?( (token )?length)?( (is|are))? too long",
        r"\b(prompt|input|conversation)s? exceeds? (the )?(max|maximum|model|context|token)\b",
        r"\b(input|prompt|sequence|requested)[^.]{0,40}\b(length|tokens?)\b[^.]{0,40}\bexceed",
        r"\btoken count\b.{0,60}\bexceed",
        r"\bnumber of (input |prompt )?tokens\b.{0,40}(exceed|larger|greater)",
        r"\bmaximum (allowed )?number of (input )?tokens|\bmodel token limit|\btoken limit exceeded",
        r"\brange of input length|\btokens to keep from the initial prompt|\btoo large for model with",
        r"\breduce (the length of )?(the|your) (messages|prompt|input)|\bmax_new_tokens`? must be <=",
        r"(上下文|输入|提示词)[^。]{0,30}(超|过长)|超(过|出)[^。]{0,20}(最大长度|上下文|长度限制)",
    ),
    _phrase(
        ContentFilteredError,
        _VAGUE | {ProviderPermissionError},
        r"\bcontent[ _-](management |usage )?(policy|policies)\b|\bcontent[ _-]?(filter|moderation)",
        r"\bsafety (system|filters?|guidelines|check)|\bsafety_check|\busage (guidelines|polic(y|ies))",
        r"\bacceptable use|\bcontent exists risk|\bconsidered high[ -]risk|\binappropriate content",
        r"\b(prohibited|harmful|sensitive|unsafe) (content|words?|information|material)|\bnew_sensitive",
        r"\bdata[ _]?inspection|\b(input|prompt|content|request|message|text)s?\b[a-z ]{0,15} flagged",
        r"\bflagged (by (the |our )?(content|moderation|safety)|as (potentially )?(violating|unsafe|harm))",
        r"\bblocked by [a-z ]{0,20}(filter|safety|moderation|guardrail|content)",
        r"\bguardrail (intervened|blocked)",
        r"\bresponsible ai\b|敏感|违规|不安全|内容安全|内容审核",
    ),
    _phrase(
        ModelNotFoundError,
        _VAGUE | {OverloadedError},
        r"\bnot a valid model|\binvalid model (identifier|id|name)s?\b",
        r"\b(invalid|unknown|unsupported|incorrect) model\b(?! [a-z]+(er|ion|put)s?\b)",
        r"\bno such model|\bnot found the model|\bmodel(_| )(id|name|identifier) (is )?(invalid|not)",
        rf"\bmodels?[:/]? ?({_NAMED} )?((was|is|could|does) )?(not|n't|no longer) "
        r"(be )?(found|exists?|served|deployed|loaded|(available|supported)\b(?! (with|by|for|in|when)\b))\b",
        rf"\bmodel:? {_NAMED} ((has been|was|is) )?(deprecated|retired|removed|decommissioned|shut ?down)\b",
        rf"\bmodel:? ?({_NAMED} )?(doesn't exist|isn't (supported|available))",
        r"\bmodel is not supported\b(?! (with|by|in|when)\b)|\bnot supported on this route",
        r"\bno (available )?(channel|provider|account|endpoint)s? [a-z ]{0,20}for (the )?model",
        r"\bno models loaded",
        r"\breached its end of life|模型不存在|无可用渠道|请求的模型|未找到模型",
    ),
    _phrase(
        OverloadedError,
        {StreamError, ProviderServerError},
        r"\boverloaded\b|\b(at|over) capacity|\bcapacity (exceeded|constraints)|\bhigh demand",
        r"\b(server|service|system|engine|model)s? (is|are) ((now|currently|temporarily|too) )*busy\b",
        r"\b(service|system|engine|model)s? (is|are) ((now|currently|temporarily) )*unavailable\b",
        r"访问量过大|负载(较|过)高",
    ),
    _phrase(InvalidRequestError, {StreamError}, r"\binvalid (request|params?|parameters?|arguments?)\b"),
)


def error_class(status: int, words: Iterable[str | None], message: str = "") -> type[EngineError]:
    """Return the class for a provider's error: by its code and type, then its status, then its text.

    A status of 0 is an error inside a stream that names none.
    """
    known = [canonical(word) for word in words if word]
    for word in known:
        if found := _TELLING_CODES.get(word):
            return found
    stated = next((_STATUS_CODES[word] for word in known if word in _STATUS_CODES), StreamError)
    cls = _class_of(status) if status else stated
    if cls in _VAGUE and (stated is RateLimitError or "429" in known or any(map(_is_throttling, known))):
        return RateLimitError
    if cls in _VAGUE | {RateLimitError, AuthenticationError, ProviderPermissionError} and any(
        _MONEY_CODE.search(word) and not _is_throttling(word) for word in known
    ):
        return QuotaExceededError
    text = _URL.sub("", message[:MAX_TEXT])
    for phrase in _PHRASES:
        if cls in phrase.over and phrase.pattern.search(text):
            return phrase.cls
    return cls


def _class_of(status: int) -> type[EngineError]:
    if found := _STATUSES.get(status):
        return found
    if 400 <= status < 500:
        return InvalidRequestError
    return ProviderServerError if status >= 500 else ProviderConnectionError


def _is_throttling(word: str) -> bool:
    return word.startswith("throttl") or "ratelimit" in word
