"""What a provider's file supplies: how a request is built and what an answer means. No I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from bupple_engine.exceptions import EngineError, UnsupportedFeatureError
from bupple_engine.masking import Hidden, MaskedDict, Secret, SecretURL, bare, hide, reveal
from bupple_engine.protocol.answer import Answer, repair
from bupple_engine.protocol.classification import canonical, error_class
from bupple_engine.protocol.media import Media, description, resolve
from bupple_engine.protocol.messages import Part, Turn
from bupple_engine.protocol.options import COMMON, Option, Options, merge_dicts
from bupple_engine.protocol.reports import read_error
from bupple_engine.protocol.request import Request, dump, join_url
from bupple_engine.protocol.scrubbing import Secrets, secrets_of
from bupple_engine.protocol.usage import Paths, read_counts, usage_of
from bupple_engine.types import Usage

from .listing import models_in, name_of

USER_AGENT = "bupple_engine"


class Wire:
    """One provider's HTTP API, as pure functions of what is sent and what came."""

    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Option]] = COMMON
    required: tuple[str, ...] = ("api_key", "model")
    # Options that the API has no field for, and why.
    unsupported: ClassVar[Mapping[str, str]] = {}
    media: frozenset[str] = frozenset({"image", "document"})
    request_id_headers: tuple[str, ...] = ("x-request-id",)
    payloads: tuple[type, ...] = (dict,)  # what a whole answer is, as JSON
    # Whether the list of models is refused without a good key, so that having it says something of the key.
    models_need_key: bool = True
    # What `manage.py check` knows without a network: what the provider's keys begin with, and those that last
    # for hours; a model to suggest; and model → its last day, "" where that has passed; a name stands for its
    # dated snapshots too.
    key_prefixes: tuple[str, ...] = ()
    expiring_keys: tuple[str, ...] = ()
    suggested_model: str = ""
    # What to try where a server that is not the vendor's lacks this API.
    other_drivers: tuple[str, ...] = ()
    needs_path: bool = False  # whether a BASE_URL without a path can't be right
    shutdowns: Mapping[str, str] = MappingProxyType({})
    # Words of an error's type or code that mean a class; beside those that the providers share.
    error_words: ClassVar[Mapping[str, type[EngineError]]] = {}

    counts: ClassVar[Paths] = MappingProxyType({})  # where the provider's usage has the common counts

    def __init__(self, name: str | None = None) -> None:
        self.driver = name or self.name

    # What is sent

    def base_url(self, options: Options) -> str:
        """Return the URL before the path that build_path adds, where the entry has no BASE_URL."""
        raise NotImplementedError

    def build_path(self, options: Options, stream: bool) -> str:
        """Return the path behind the base URL."""
        raise NotImplementedError

    def build_auth(self, key: str, options: Options) -> dict[str, str]:
        """Return the header that carries the key."""
        return {"Authorization": f"Bearer {key}"}

    def build_headers(self, options: Options) -> dict[str, str]:
        """Return the headers that the API wants beside the key."""
        return {}

    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        """Return the body, or raise an UnsupportedFeatureError for what it cannot express."""
        raise NotImplementedError

    def build_models_path(self, options: Options, page: str) -> str:
        """Return the path of the list of models, of the page of it that parse_models named."""
        raise UnsupportedFeatureError(f"{self.driver} has no list of models.")

    def build_echo(self, body: dict[str, Any], options: Options) -> dict[str, Any]:
        """Return what of the request must be known again when its answer comes back in a history."""
        return {}

    def build_media(self, media: Media) -> dict[str, Any]:
        """Return the part for an image, audio or a document that the wire's `media` names."""
        raise NotImplementedError

    def build_text(self, text: str, role: str) -> dict[str, Any]:
        """Return the part for a text."""
        return {"type": "text", "text": text}

    def build_request(self, turns: list[Turn], options: Options, stream: bool) -> Request:
        """Return the request for a call, or raise before any I/O."""
        try:
            return self._build_request(turns, options, stream)
        except EngineError as error:
            mistake = bare(error)
        raise mistake  # out here: the frames in which a body is built hold what is in extra

    def _build_request(self, turns: list[Turn], options: Options, stream: bool) -> Request:
        self.check_options(options)
        request = self.address(self.build_path(options, stream), options, stream)
        body = self.build_body(turns, options, stream)
        if options.get("extra"):
            body = merge_dicts(body, reveal(options["extra"]))
        return request.replace(body=dump(body), echo=lambda: self.build_echo(body, options))

    def build_models_request(self, options: Options, page: str) -> Request:
        """Return the request for a page of the list of models, of the first for ""."""
        path = self.build_models_path(options, page)
        return self.address(path, options, False, method="GET", endpoint=self.build_path(options, False))

    def address(
        self, path: str, options: Options, stream: bool, *, method: str = "POST", endpoint: str = ""
    ) -> Request:
        """Return a request to a path, with the entry's key and headers and without a body.

        endpoint is the path of messages, which BASE_URL may end with, where path is another.
        """
        # Revealed once, since a vault may be asked, and wrapped again: whatever raises here shows its locals.
        key = options["api_key"].ask() if options.get("api_key") else None
        base = options.get("base_url") or SecretURL(self.base_url(options))
        return Request(
            join_url(base.reveal(), path, endpoint),
            self._headers(key, base, options, stream, method),
            b"",
            stream,
            Secrets(lambda: secrets_of({**options, "api_key": key, "base_url": base})),
            method,
            elsewhere=options.get("base_url") is not None,
        )

    def _headers(
        self, key: Secret | None, base: SecretURL, options: Options, stream: bool, method: str
    ) -> MaskedDict:
        """Return a request's headers; those that the entry and the call set stand above all others."""
        headers = MaskedDict({"User-Agent": USER_AGENT})
        if method != "GET":
            headers["Content-Type"] = "application/json"
        # Compressed, a stream may be held back until a block is full.
        headers |= (
            {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
            if stream
            else {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        )
        if base.credentials:
            headers["Authorization"] = Hidden(f"Basic {base.credentials[-1]}")
        if key:
            headers |= hide(self.build_auth(key.reveal(), options))
        headers |= self.build_headers(options)
        if chosen := options.get("headers"):
            last = {name.lower(): name for name in chosen}  # entry and call may spell one name in two ways
            headers = MaskedDict({name: value for name, value in headers.items() if name.lower() not in last})
            headers |= {name: chosen[name] for name in last.values()}
        return headers

    def advise_absent(self, request: Request) -> str:
        """Return what to do where nothing answers at a request's path, "" where the path is the vendor's."""
        if not request.elsewhere:
            return ""
        path = urlsplit(request.url).path
        advice = f"Nothing answers at {path}: check the entry's BASE_URL"
        if not re.search(r"/v\d", path):
            advice += ", which most servers have end in /v1"
        if self.other_drivers:
            names = " or ".join(f'"{name}"' for name in self.other_drivers)
            advice += f'; a server that does not speak this API takes another "DRIVER": {names}'
        return f"{advice}."

    def check_options(self, options: Options) -> None:
        """Raise an UnsupportedFeatureError for an option that the API has no field for."""
        for name, reason in self.unsupported.items():
            if options.get(name) is not None:
                raise self.unsupported_option(name, reason)

    def refused_options(self, options: Options) -> Iterable[tuple[str, str]]:
        """Yield the options that the model is known to refuse, and why; they are sent all the same."""
        return ()

    def check(self, options: Options) -> Iterable[Any]:
        """Return Django's CheckMessages about an entry, for `manage.py check`; send nothing."""
        return ()

    def unsupported_option(self, name: str, reason: str) -> UnsupportedFeatureError:
        """Return the error for an option that the API has no field for."""
        return UnsupportedFeatureError(f"{name} can't be sent by {self.driver}: {reason}.", param=name)

    def build_parts(self, turn: Turn) -> list[dict[str, Any]]:
        """Return a turn's content as the API's parts, blank texts left out."""
        parts: list[dict[str, Any]] = []
        for part in turn.parts:
            taken = part.type in self.media and turn.role == "user"
            if part.type == "text":
                text = part.content
            elif taken:
                parts.append(self.build_media(resolve(part)))
                text = description(part)
            elif part.type == "audio" and part.metadata.get("transcript"):
                text = "\n".join(filter(None, (str(part.metadata["transcript"]), description(part))))
            elif part.type in self.media:
                raise self.refuse(part, f"{part.type} in a message of the {turn.role}")
            else:
                raise self.refuse(part, part.type)
            if text.strip():
                parts.append(self.build_text(text, turn.role))
        return parts

    def refuse(self, part: Part, what: str) -> UnsupportedFeatureError:
        """Return the error for a part that the API cannot take."""
        return UnsupportedFeatureError(
            f"{part.where} can't be sent: {self.driver} takes no {what}", param=part.where
        )

    def amend_request(self, request: Request, error: EngineError) -> Request | None:
        """Return the request without the field that the provider refused, or with the one it wants instead.

        None where the call can't do without it.
        """
        return None

    # What came

    def open_answer(self, request: Request) -> Answer:
        """Return what the answer to a request is to be written down in."""
        return Answer()

    def parse_reply(self, payload: dict[str, Any], answer: Answer) -> None:
        """Write a whole answer down."""
        raise NotImplementedError

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        """Write one event of a stream down."""
        raise NotImplementedError

    def parse_end(self, data: str, answer: Answer) -> bool:
        """Tell whether an event's data is the mark of the end, which is no JSON."""
        if not is_end_mark(data):
            return False
        answer.ended = answer.finish_reason is not None  # on most wires the mark alone proves nothing
        return True

    def parse_tail(self, answer: Answer) -> bool:
        """Tell whether an unfinished last event may be looked at, which the standard drops."""
        return False

    def parse_models(self, payload: Any) -> tuple[list[str], str]:
        """Return the names on a page of the list of models, and what names the next page, "" after the last.

        The list stands in `payload["data"]` as OpenAI's does, under another usual name, or bare.
        """
        return [name_of(item) for item in models_in(payload)], ""

    def offers(self, model: str, models: list[str]) -> bool | None:
        """Tell whether a model is in the list; None where it may be there though the list lacks it."""
        return model in models

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        """Return what the provider has counted until now, in common terms; None where it told nothing."""
        raw = answer.usage or {}
        return usage_of(raw, read_counts(raw, self.counts), tier=answer.tier)

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        """Return what the provider wants echoed, as it will travel in metadata["echo"]."""
        return {"items": answer.items} if answer.items else {}

    def parse_error(self, status: int, payload: Any, text: str = "") -> EngineError:
        """Return the error that a provider's answer means; a status of 0 is an error inside a stream."""
        said = read_error(payload)
        message = said.message or text.strip()[:500]
        status = status or said.status
        own = {canonical(word): cls for word, cls in self.error_words.items()}
        cls = next((own[word] for word in map(canonical, said.words) if word in own), None)
        cls = cls or error_class(status, said.words, said.text or message)
        return cls(
            message or f"The provider answered with status {status} and no text.",
            code=status,
            type=said.type,
            param=said.param,
            retry_after=said.retry_after,
        )

    def parse_reasoning_echo(self, turn: Turn) -> dict[str, Any] | None:
        """Return what this driver's earlier answer wanted echoed, its `items` among it.

        None for another driver's answer, and for one whose text was edited since. The caller, or a client
        of the caller's, holds it in between: nothing of its shape is taken for granted.
        """
        echo = turn.metadata.get("echo")
        if turn.role != "assistant" or turn.metadata.get("driver") != self.driver:
            return None
        if not isinstance(echo, dict) or not isinstance(items := echo.get("items"), list):
            return None
        if not all(isinstance(item, dict) for item in items):
            return None
        return echo if echo.get("text") == digest("".join(part.content for part in turn.parts)) else None

    def finish(self, answer: Answer, request: Request, model: str) -> dict[str, Any]:
        """Return the keys that a Reply and the last chunk share."""
        metadata = {"driver": self.driver, **answer.metadata}
        if answer.finish_reason != "tool_calls" and (echo := self.parse_echo(answer)):
            metadata["echo"] = {**request.echo(), **echo, "text": digest("".join(answer.texts))}
        last = {
            "model": answer.model or model,
            "usage": self.parse_usage(answer, request),
            "finish_reason": answer.finish_reason or "unknown",
            "metadata": metadata,
        }
        return last if answer.half is None else cast("dict[str, Any]", repair(last))


def is_end_mark(data: str) -> bool:
    """Tell whether data is the mark of the end, [DONE], or what other services have for it."""
    return len(data) < 20 and re.fullmatch(r"(?i)\W*(done|eof|end)\W*", data) is not None


def lacks_path(error: EngineError) -> bool:
    """Tell whether an error means that there is no API at a URL, rather than no such model."""
    if re.search(r"(?i)unexpected endpoint", error.message):  # LM Studio, with status 200
        return True
    about_a_model = re.search(r"(?i)(?<![/\w])models?\b|deployment", f"{error.message} {error.type}")
    return error.code in (404, 405, 501) and not (about_a_model or "model" in str(error.type))


def family(model: str) -> str:
    """Return a model's name without the date or the mark of a snapshot."""
    return re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2}|\d{4}|latest)$", "", model)


def digest(text: str) -> str:
    """Return what tells a text from another in an echo."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
