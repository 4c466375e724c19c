"""An error as a provider, or a router in front of it, reports it: where its words stand. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from .classification import canonical
from .retries import parse_seconds

MAX_DEPTH = 8  # a router wraps an error once or twice; what is deeper is no error that anybody wrote
MAX_LAYERS = 30

_CODE_KEYS = (
    "code",
    "type",
    "status",
    "error_code",
    "errorCode",
    "status_code",
    "statusCode",
    "reason",
    "__type",
    "errcode",
    "Code",
)
_TEXT_KEYS = (
    *("message", "msg", "error", "detail", "error_msg", "error_message", "errorMessage", "status_msg"),
    *("errmsg", "err_msg", "Message"),
    *("errors", "error_description", "base_resp", "title", "raw"),
)
# Under which a router, or a framework, has the error that it passes on.
_INNER_KEYS = (
    *("error", "errors", "base_resp", "detail", "details", "metadata", "raw", "innererror", "inner_error"),
    *("upstream", "upstream_error", "provider_error", "original_error", "cause", "body", "response", "data"),
    *("message", "msg"),
)
_DELAY_KEYS = ("retryDelay", "retry_after", "retryAfter", "retry_after_seconds")
_NO_WORDS = frozenset({"", "null", "none", "nil", "undefined", "ok", "success", "false", "no error"})
_FAILING_KEYS = ("code", "errorCode", "status_code", "statusCode", "errcode", "ret", "Code")
_SUCCESSES = frozenset({"0", "200", "000000"})


class Said(NamedTuple):
    """What an error says: its words, these and all that is wrapped in it, its codes, and the evidence."""

    message: str
    text: str
    words: list[str]
    type: str | None
    status: int
    param: str | None
    retry_after: float | None


def read_error(payload: Any) -> Said:
    """Return what an error says, with what is wrapped in it, down to MAX_DEPTH; never raises."""
    body = payload[0] if isinstance(payload, list) and payload else payload
    body = body if isinstance(body, dict) else {}
    error = body.get("error")
    outer = error if isinstance(error, dict) else body
    layers = list(islice(_layers(outer, 0), MAX_LAYERS))
    if outer is not body:
        layers += [body]
    # A validator's "type" is about the field, not about the call.
    coded = [layer for layer in layers if "loc" not in layer]
    words = [word for layer in coded for name in _CODE_KEYS if (word := _code(layer.get(name)))]
    words = [word.rpartition("#")[2] for word in words]  # AWS has "com.amazon…#ThrottlingException"
    named = [_code(outer.get(name)) for name in ("type", "code", "status", "error_code")]
    named = [word for word in [*named, *words] if not word.isdigit()]
    if any("flagged_input" in layer for layer in layers):
        words.append("flagged_input")  # OpenRouter's moderation says so by this alone
    if any("PerDay" in _code(layer.get("quotaId")) for layer in layers):
        words.append("quota_per_day")  # Google's limit of a day: waiting for it is no retry
    message, inner = _text(outer) or _text(body), [_text(layer) for layer in layers]
    if inner and _is_wrapping(message):
        message = ": ".join([message, *[text for text in inner[1:] if text and text not in message][:1]])
    reason = next((word for word in words if canonical(word) == "apikeyinvalid"), None)
    # Google has no Retry-After header: the delay is in the body, as "37s" or "37.5s". Others do as it does.
    told = [layer.get(name) for layer in layers for name in _DELAY_KEYS]
    told += [
        layer["headers"].get("Retry-After") for layer in layers if isinstance(layer.get("headers"), dict)
    ]
    delays = (parse_seconds(str(delay)) for delay in told if isinstance(delay, str | int | float))
    return Said(
        message,
        "\n".join(dict.fromkeys([message, *inner])),
        words,
        reason or next(filter(None, named), None),
        next((int(word) for word in words if re.fullmatch("[45][0-9]{2}", word)), 0),
        next(filter(None, map(_param, layers)), None),
        next((delay for delay in delays if delay), None),
    )


def reports_error(payload: Mapping[str, Any]) -> bool:
    """Return whether what should be an answer, or a piece of one, is an error in whatever shape."""
    get = payload.get
    if says_something(get("error")) or get("object") == "error" or get("type") == "error":
        return True
    if get("type") or get("choices") or get("candidates") or get("output") or get("content"):
        return False
    if says_something(payload.get("errors")) or payload.get("error_code") or payload.get("success") is False:
        return True
    base = payload.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    told = payload.get("detail") or payload.get("error_msg")
    if not told:
        said = next(filter(None, map(payload.get, ("message", "msg", "errmsg", "err_msg", "Message"))), None)
        told = said if said and _is_failed(payload) else None
    return isinstance(told, str | list) and says_something(told)


def _is_failed(payload: Mapping[str, Any]) -> bool:
    """Return whether an object's code or status reports a failure; a message alone may say "wait"."""
    codes = [_code(payload.get(name)) for name in _FAILING_KEYS]
    status = _code(payload.get("status")).lower()
    failed = status in ("error", "fail", "failed") or re.fullmatch("[45][0-9]{2}", status) is not None
    return failed or any(code and code not in _SUCCESSES for code in codes)


def says_something(value: Any, depth: int = 0) -> bool:
    """Return whether an error has anything in it: some services send one whose values are all empty."""
    if depth > MAX_DEPTH:
        return True
    if isinstance(value, dict):
        return any(
            says_something(inner, depth + 1)
            for name, inner in value.items()
            if not (name in _CODE_KEYS and _code(inner) in _SUCCESSES)
        )
    if isinstance(value, list):
        return any(says_something(inner, depth + 1) for inner in value)
    return value.strip().lower() not in _NO_WORDS if isinstance(value, str) else bool(value)


def _layers(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield an error and those that it wraps, as objects, lists of them, or JSON in a string."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        value = parse_embedded(value)
    if isinstance(value, list):
        for item in value[:MAX_LAYERS]:
            yield from _layers(item, depth + 1)
    elif isinstance(value, dict):
        yield value
        for name in (*_INNER_KEYS, "violations", "fieldViolations"):
            if name in value:
                yield from _layers(value[name], depth + 1)


def parse_embedded(text: str) -> Any:
    """Return the JSON that a text holds, such as the body that a router quotes; None where it holds none."""
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    if start < 0:
        return None
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def _text(value: Any, depth: int = 0) -> str:
    """Return the words of an error, or of a list of them; the field that each is about is named."""
    if depth > MAX_DEPTH or value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_text(item, depth + 1) for item in value[:MAX_LAYERS])))
    if isinstance(value, dict):
        text = next(filter(None, (_text(value.get(name), depth + 1) for name in _TEXT_KEYS)), "")
        field = _field(value.get("loc"))
        return f"{field}: {text}" if field and text and field not in text else text
    text = str(value)
    if text[:1] in ("{", "[") and isinstance(inner := parse_embedded(text), dict | list):
        return _text(inner, depth + 1) or text
    return text


def _is_wrapping(message: str) -> bool:
    """Return whether a message says no more than that another has failed."""
    return len(message) < 60 and re.search(r"(?i)provider|upstream|backend|error", message) is not None


def _param(layer: dict[str, Any]) -> str | None:
    """Return what of the request an error is about; Google has the field in its details."""
    return _code(layer.get("param")) or _field(layer.get("loc")) or _code(layer.get("field")) or None


def _field(loc: Any) -> str | None:
    """Return the field that a validator names by its place: ["body", "messages", 0] is messages[0]."""
    if not isinstance(loc, list | tuple):
        return None
    steps = [step for step in loc[:MAX_LAYERS] if isinstance(step, str | int)]
    if steps and steps[0] in ("body", "query", "json"):
        steps = steps[1:]
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or None


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _code(value: Any) -> str:
    return str(value) if _is_plain(value) and value != "" else ""
