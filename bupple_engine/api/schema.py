"""What drf-spectacular says of our endpoints; loaded where it is in INSTALLED_APPS."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema

from bupple_engine.protocol.messages import PART_TYPES, ROLES
from bupple_engine.protocol.usage import NO_USAGE, PARTS

from .asked import MEDIA_KEYS
from .completions import FINISH_REASONS

Schema = dict[str, Any]

EVENTS = "text/event-stream"


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _word(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "nullable": True}
YES: Schema = {"type": "boolean"}
ANY: Schema = {"type": "object", "additionalProperties": {}}

METADATA = _object(**dict.fromkeys(MEDIA_KEYS, TEXT))
PART = _object("content", type=_word(*PART_TYPES), content=TEXT, metadata=METADATA)
CONTENT: Schema = {"oneOf": [TEXT, _list(PART)]}
MESSAGE = _object(
    "role", "content", role=_word(*ROLES), content=CONTENT, type=_word(*PART_TYPES), metadata=METADATA
)
CHOICE = {"driver": TEXT, "model": TEXT, "options": ANY}
CHAT = _object("messages", messages=_list(MESSAGE), **CHOICE)
WHOLE: Schema = {"type": "integer"}
USAGE = _object(*NO_USAGE, **dict.fromkeys(NO_USAGE, COUNT), **dict.fromkeys(PARTS, WHOLE))
REPLY = _object(
    *("role", "content", "model", "usage", "finish_reason", "metadata"),
    role=_word("assistant"),
    content=TEXT,
    model=TEXT,
    usage=USAGE,
    finish_reason=_word(*FINISH_REASONS),
    metadata=_object(reasoning=TEXT),
)
ERROR = _object(
    "error",
    error=_object(
        *("type", "message", "code"),
        type=TEXT,
        message=TEXT,
        code={"type": "integer"},
        param=TEXT,
        retry_after=NUMBER,
        id=TEXT,
    ),
)

COMPLETION_REQUEST = _object(
    *("model", "messages"),
    model=TEXT,
    messages=_list(_object("role", role=TEXT, content={"oneOf": [TEXT, _list(ANY)], "nullable": True})),
    stream=YES,
    stream_options=_object(include_usage=YES),
    temperature=NUMBER,
    top_p=NUMBER,
    max_tokens={"type": "integer"},
    max_completion_tokens={"type": "integer"},
    stop={"oneOf": [TEXT, _list(TEXT)]},
    seed={"type": "integer"},
    reasoning_effort=TEXT,
)
COMPLETION = _object(
    *("id", "object", "created", "model", "choices"),
    id=TEXT,
    object=_word("chat.completion"),
    created={"type": "integer"},
    model=TEXT,
    choices=_list(
        _object(
            *("index", "message", "finish_reason"),
            index={"type": "integer"},
            message=_object("role", "content", role=_word("assistant"), content=TEXT, reasoning_content=TEXT),
            finish_reason=_word(*dict.fromkeys(FINISH_REASONS.values())),
        )
    ),
    usage={
        **_object(
            **dict.fromkeys(NO_USAGE, WHOLE),
            prompt_tokens_details=_object(cached_tokens=WHOLE, audio_tokens=WHOLE, cache_write_tokens=WHOLE),
            completion_tokens_details=_object(reasoning_tokens=WHOLE, audio_tokens=WHOLE),
        ),
        "nullable": True,
    },
)
COMPLETION_ERROR = _object(
    "error",
    error=_object(
        *("message", "type"),
        message=TEXT,
        type=TEXT,
        param={**TEXT, "nullable": True},
        code={**TEXT, "nullable": True},
        id=TEXT,
    ),
)
MODEL = _object(
    *("id", "object", "created", "owned_by"),
    id=TEXT,
    object=_word("model"),
    created={"type": "integer"},
    owned_by=TEXT,
)

UI_PART = _object("type", type=TEXT, text=TEXT, mediaType=TEXT, filename=TEXT, url=TEXT)
UI_MESSAGE = _object("role", "parts", id=TEXT, role=_word(*ROLES), parts=_list(UI_PART))
UI_CHAT = _object(
    id=TEXT, messages=_list(UI_MESSAGE), message=UI_MESSAGE, prompt=TEXT, trigger=TEXT, **CHOICE
)

DRIVERS = _list(_object("driver", "default", "models", driver=TEXT, default=YES, models=_list(TEXT)))

# Status → what it means; where a provider has failed, see errors.
FAILURES = {
    400: "Something in the body is wrong; the error names it.",
    401: "Who calls is not known.",
    403: "Who calls may not.",
    404: "There is no such model.",
    411: "The body has no length, and this server does not tell its end.",
    413: "The body, or the conversation, is too long.",
    415: "The body is no JSON, or compressed.",
    422: "The provider's content policy blocked it.",
    429: "Too many calls or streams, here or at the provider; see Retry-After.",
    500: "The site's settings are wrong, or the server failed.",
    502: "The provider failed.",
    503: "The provider or this server has no capacity.",
    504: "The provider took too long.",
}
REFUSALS = (401, 403, 500)


def _operation(
    answer: Schema | None = None,
    *,
    asks: Schema | None = None,
    events: str = "",
    error: Schema = ERROR,
    more: tuple[int, ...] = (),
    name: str | None = None,
) -> Any:
    """Return the decorator of one method: its body, its answers and its errors."""
    json = "application/json"
    statuses = tuple(FAILURES) if asks else (*REFUSALS, *more)
    responses: dict[Any, Any] = {
        (status, json): OpenApiResponse(error, FAILURES.get(status, "There is no such thing."))
        for status in statuses
    }
    if answer:
        responses[200, json] = answer
    if events:
        responses[200, EVENTS] = OpenApiResponse(OpenApiTypes.STR, events)
    return extend_schema(name, request={json: asks} if asks else None, responses=responses)


OPERATIONS = {
    "ChatView": {"post": _operation(REPLY, asks=CHAT, events="The native event stream, for who accepts it.")},
    "ChatStreamView": {"post": _operation(asks=CHAT, events="The native event stream.")},
    "CompletionsView": {
        "post": _operation(
            COMPLETION, asks=COMPLETION_REQUEST, events="Chunks, with stream.", error=COMPLETION_ERROR
        )
    },
    "UIChatView": {"post": _operation(asks=UI_CHAT, events="The UI message stream.")},
    "ModelListView": {
        "get": _operation(
            _object("object", "data", object=_word("list"), data=_list(MODEL)),
            error=COMPLETION_ERROR,
            name="v1_models_list",
        )
    },
    "ModelView": {"get": _operation(MODEL, error=COMPLETION_ERROR, more=(404,))},
    "DriverListView": {"get": _operation(DRIVERS, name="drivers_list")},
}


def _extension(name: str, operations: dict[str, Any]) -> type[OpenApiViewExtension]:
    def view_replacement(self: Any) -> Any:
        documented = type(name, (self.target_class,), {})
        for method, decorate in operations.items():
            # A function of its own: the decorator writes on it, and some views share theirs.
            inherited = getattr(self.target_class, method)

            def handler(self: Any, *args: Any, _inherited: Any = inherited, **kwargs: Any) -> Any:
                return _inherited(self, *args, **kwargs)

            handler.__name__, handler.__doc__ = method, self.target_class.__doc__
            setattr(documented, method, decorate(handler))
        return documented

    members = {"target_class": f"{__package__}.views.{name}", "view_replacement": view_replacement}
    return type(f"{name}Extension", (OpenApiViewExtension,), members)


EXTENSIONS = [_extension(name, operations) for name, operations in OPERATIONS.items()]
