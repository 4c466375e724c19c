"""What a client asks for, held to what the site has listed; each error names the field."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from bupple_engine.conf import APISettings, default_alias
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.http.dialects import Dialect, public
from bupple_engine.protocol import media
from bupple_engine.protocol.messages import Part, Turn, validate
from bupple_engine.types import Message, Reply

from .addresses import why_private

# Of a message's metadata all else is between us and the providers: a client could forge it.
MEDIA_KEYS = ("mime_type", "format", "detail", "caption", "transcript", "filename")

# Of an option for which any value will do: stop sequences, a schema.
MAX_OPTION_CHARACTERS = 10_000
MAX_URL = 10_000  # characters; signed ones have up to two thousand


@dataclass
class ChatCall:
    """A client's call, checked; PREPARE may change all of it, and what it sets is not checked again.

    driver is an alias. options are those of ai(driver).send(), api_key among them. data is the whole body
    as the client sent it. context goes to call_finished.
    """

    endpoint: str
    messages: list[Message]
    driver: str | None = None
    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # PREPARE may put a key there
    stream: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    context: Any = None
    places: Mapping[str, str] = field(default_factory=dict, repr=False)  # our address → the client's own


class ChatDialect(Dialect):
    """A dialect in which clients also ask.

    read() is called once a request, behind authentication. The instance for the answer is made of what it
    returned; one for an error, where nothing has been read, of None. reply_body() is called in place of
    encode() where the call is no stream.
    """

    def __init__(self, call: ChatCall | None = None) -> None:
        super().__init__()

    @staticmethod
    @abstractmethod
    def read(data: Mapping[str, Any], api: APISettings) -> ChatCall:
        """Return what the body asks for, or raise an InvalidRequestError that names what is wrong in it."""

    def reply_body(self, reply: Reply) -> dict[str, Any]:
        """Return the body of a whole answer, as JSON."""
        return public(reply)


def default_driver(api: APISettings) -> str | None:
    """Return the driver of a client that names none: the default one where it is listed, else the first."""
    if (alias := default_alias()) in api.drivers:
        return alias
    return api.drivers[0] if api.drivers else None


def choose_driver(data: Mapping[str, Any], api: APISettings) -> tuple[str | None, str | None]:
    """Return the driver and model that a body names; the default driver where it names none."""
    for name in ("driver", "model"):
        if data.get(name) is not None and not isinstance(data[name], str):
            raise wrong(name, "must be a string")
    driver, model = data.get("driver"), data.get("model")
    if driver is None:
        driver = default_driver(api)
    elif driver not in api.drivers:
        raise wrong("driver", f"is {driver!r}, which is not one of: {', '.join(api.drivers)}")
    if model is not None and model not in api.models.get(driver or "", ()):
        raise wrong("model", f"is {model!r}, which this driver does not have for clients")
    return driver, model


def read_options(data: Mapping[str, Any], api: APISettings) -> dict[str, Any]:
    """Return the options of a body that has them in a field of their own."""
    options = data.get("options")
    if not isinstance(options, dict | None):
        raise wrong("options", "must be an object")
    return {
        name: check_option(f'options["{name}"]', name, value, api)
        for name, value in (options or {}).items()
        if value is not None
    }


def check_option(where: str, name: str, value: Any, api: APISettings) -> Any:
    """Return an option's value if the site lets clients set it to that; where is the field's name."""
    if name not in api.options:
        raise wrong(where, "may not be set here")
    limit = api.options[name]
    if isinstance(limit, list):
        if value not in limit:
            raise wrong(where, f"must be one of {', '.join(map(repr, limit))}")
    elif limit is not True:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(where, "must be a number")
        if not value <= limit:
            raise wrong(where, f"must be {limit} at most")
    elif not isinstance(value, int | float) and len(repr(value)) > MAX_OPTION_CHARACTERS:
        raise wrong(where, "is too long")
    return value


def check_messages(messages: Any, api: APISettings) -> list[Message]:
    """Return the messages within the bounds, and without what a client may not say."""
    if not isinstance(messages, list):
        raise wrong("messages", "must be a list")
    count = sum(
        len(item["content"]) if isinstance(item, dict) and isinstance(item.get("content"), list) else 1
        for item in messages
    )
    if count > api.max_messages:
        raise wrong("messages", f"has {count} messages and parts; {api.max_messages} are allowed")
    turns = validate(messages)
    left = api.max_characters
    for turn in turns:
        if turn.role == "system" and not api.system_messages:
            raise wrong(
                f'{turn.where}["role"]', "is that of a system message, which clients may not send here"
            )
        for part in turn.parts:
            taken = _taken(part.metadata, part.where)
            left -= sum(map(len, taken.values()))
            left -= len(part.content) if part.type == "text" else 0
            if left < 0:
                raise wrong("messages", f"have more than {api.max_characters} characters")
            if part.type != "text":
                _check_media(part, api)
    return [_rebuild(turn) for turn in turns]


def _check_media(part: Part, api: APISettings) -> None:
    # Of anything but base64 each character may take a hundred bytes, or a pass over all of them.
    where, content = f'{part.where}["content"]', part.content.strip()
    head = content[:MAX_URL].lower()
    if (
        (head.startswith(("http://", "https://")) and len(content) > MAX_URL)
        or (head.startswith("data:") and "," not in head)
        or content.count("%") > MAX_URL
    ):
        raise wrong(where, "is too long for a URL; send long data as base64")
    if head.startswith(("http://", "https://")):
        if not api.media_urls:
            raise wrong(where, "is a URL; send what is there as base64 or as a data URL")
        if why := why_private(content):
            raise wrong(where, f"is a URL that {why}; send a public https one, or a data URL")
    found = media.resolve(part)
    if found.mime_type is None:
        # A URL whose name doesn't tell: what it is said to be has to do.
        allowed = any(media_type(each) == part.type for each in api.media_types)
    else:
        # One that does not fit the part would pass as what is allowed, and be sent as what is not.
        allowed = found.mime_type in api.media_types and media_type(found.mime_type) == part.type
    if not allowed:
        known = ", ".join(api.media_types) or "no media"
        raise wrong(where, f"is {found.mime_type or 'something'} as {part.type}; allowed are {known}")


def media_type(mime_type: str) -> str:
    """Return the type of part that media of a mime type is."""
    kind = mime_type.partition("/")[0]
    return kind if kind in ("image", "audio") else "document"


def _taken(metadata: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return what is taken of a client's metadata."""
    taken = {key: metadata[key] for key in MEDIA_KEYS if metadata.get(key) is not None}
    for key, value in taken.items():
        if not isinstance(value, str):
            raise wrong(f'{where}["metadata"]["{key}"]', "must be a string")
    return taken


def _rebuild(turn: Turn) -> Message:
    parts: list[Any] = [
        {
            "type": part.type,
            "content": part.content,
            **({"metadata": taken} if (taken := _taken(part.metadata, part.where)) else {}),
        }
        for part in turn.parts
    ]
    if len(parts) == 1 and parts[0]["type"] == "text" and "metadata" not in parts[0]:
        return cast("Message", {"role": turn.role, "content": parts[0]["content"]})
    return cast("Message", {"role": turn.role, "content": parts})


def wrong(where: str, what: str) -> InvalidRequestError:
    """Return the error for a field of a client's body."""
    end = "" if what.endswith((".", "?")) else "."
    return InvalidRequestError(f"{where} {what}{end}", param=where)


def in_their_terms(error: InvalidRequestError, places: Mapping[str, str]) -> InvalidRequestError:
    """Return an error of ours with the addresses that the client knows, in its param and its words.

    places has addresses within the messages, and names of options, with which a text begins.
    """
    if error.code or not places:
        return error
    longest_first = sorted(map(re.escape, places), key=len, reverse=True)
    ours = re.compile("|".join(each if "\\[" in each else rf"\A{each}\b" for each in longest_first))

    def translate(text: str | None) -> str | None:
        return ours.sub(lambda found: places[found[0]], text) if text is not None else None

    return type(error)(translate(error.message) or "", param=translate(error.param))


def moved_places(places: Mapping[str, str], before: Sequence[Any], after: Sequence[Any]) -> dict[str, str]:
    """Return the places after PREPARE, which may have put messages of the site's among the client's."""
    moved = {name: place for name, place in places.items() if not name.startswith("messages[")}
    for now, message in enumerate(after):
        index = next((index for index, each in enumerate(before) if each is message), None)
        if index is not None:
            then = f"messages[{index}]"
            theirs = {
                name.removeprefix(then): place for name, place in places.items() if name.startswith(then)
            }
            moved |= {f"messages[{now}]{rest}": place for rest, place in {"": then, **theirs}.items()}
    return moved


def option_places(data: Mapping[str, Any]) -> dict[str, str]:
    """Return where the options are, of a body that has them in a field of their own."""
    return {name: f'options["{name}"]' for name in data.get("options") or ()}
