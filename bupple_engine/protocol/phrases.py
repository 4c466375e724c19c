"""What words alone may tell of an error, where its code and its status leave the class vague. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from bupple_engine.exceptions import (
    AuthenticationError,
    ContentFilteredError,
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderPermissionError,
    ProviderServerError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    StreamError,
)

MAX_TEXT = 8_000  # of what phrases are looked for in

# The classes that phrases may make more precise, the vaguest first.
_UNTOLD = frozenset({InvalidRequestError, StreamError})
VAGUE = _UNTOLD | {ProviderServerError}


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
        VAGUE | {AuthenticationError, ProviderPermissionError, RateLimitError, OverloadedError},
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
        VAGUE | {ProviderPermissionError},
        r"\bexceeded your (current|monthly) [a-z ]{0,10}quota",
        r"\benable billing|billing (to be|is not|has not been) (enabled|active)|billing (details|issue)",
    ),
    _phrase(RequestTooLargeError, {RateLimitError}, r"\brequest too large for"),
    _phrase(
        RateLimitError,
        VAGUE | {ProviderPermissionError, OverloadedError},
        r"\brate exceeded\b|\btoo many (concurrent )?requests",
        r"\brate[ _-]?limit(s|ed|ing)?\b|\bthrottl(ed|ing)\b",
        r"\b(requests?|tokens?|queries) per (minute|min|second|hour|day)\b|\b(TPM|RPM|QPS) limit",
        r"\bconcurren(t|cy)[a-z ]{0,20} (limit|exceeded)|\brequest rate increased",
        r"\btoo many tokens, please wait|\bwait before (trying|retrying)|\bresource (has been )?exhausted",
        r"\bslow(er)? down\b|速率限制|请求过于频繁|请求过多|并发",
    ),
    _phrase(
        ContextLengthExceededError,
        VAGUE | {RequestTooLargeError},
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
        VAGUE | {ProviderPermissionError},
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
        VAGUE | {OverloadedError},
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


def told_by_phrase(cls: type[EngineError], message: str) -> type[EngineError]:
    """Return the class that a phrase in the message tells, where it may make this one more precise."""
    text = _URL.sub("", message[:MAX_TEXT])
    for phrase in _PHRASES:
        if cls in phrase.over and phrase.pattern.search(text):
            return phrase.cls
    return cls
