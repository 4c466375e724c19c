"""The one map from what a provider's error says to its class. No I/O.

A structured code decides, then the status, then phrases; a phrase is believed only where the class that the
status gives is as vague as that phrase's row allows.

Sources: https://platform.openai.com/docs/guides/error-codes, https://platform.claude.com/docs/en/api/errors,
https://ai.google.dev/gemini-api/docs/troubleshooting, and what users of the services have reported in public.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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

from .phrases import VAGUE, told_by_phrase

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
    if cls in VAGUE and (stated is RateLimitError or "429" in known or any(map(_is_throttling, known))):
        return RateLimitError
    if cls in VAGUE | {RateLimitError, AuthenticationError, ProviderPermissionError} and any(
        _MONEY_CODE.search(word) and not _is_throttling(word) for word in known
    ):
        return QuotaExceededError
    return told_by_phrase(cls, message)


def _class_of(status: int) -> type[EngineError]:
    if found := _STATUSES.get(status):
        return found
    if 400 <= status < 500:
        return InvalidRequestError
    return ProviderServerError if status >= 500 else ProviderConnectionError


def _is_throttling(word: str) -> bool:
    return word.startswith("throttl") or "ratelimit" in word
