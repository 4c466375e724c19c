"""What a provider's file supplies: how a request is built and what an answer means. No I/O."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from bupple_engine.exceptions import EngineError, UnsupportedFeatureError
from bupple_engine.masking import Hidden, MaskedDict, Secret, SecretURL, bare, hide, reveal
from bupple_engine.protocol.media import Media, description, resolve
from bupple_engine.protocol.messages import Part, Turn
from bupple_engine.protocol.options import COMMON, EntryOptions, Option, Options, merge_dicts
from bupple_engine.protocol.request import Request, dump, join_url
from bupple_engine.protocol.scrubbing import Secrets, secrets_of

from .listing import models_in, name_of
from .parser import Parser, digest

USER_AGENT = "bupple_engine"


class _Head(NamedTuple):
    """What a request has beside its body, wrapped; secrets gives what is secret in it."""

    url: Hidden
    headers: MaskedDict
    secrets: Callable[[], Iterable[str]]


class Wire(Parser):
    """One provider's HTTP API, as pure functions of what is sent and what came.

    A wire of your own has base_url(), build_path(), build_body(), parse_reply() and parse_event(), and
    build_media() unless its `media` is empty; one that lacks any can't be made. `counts` says where its
    usage is told. One instance serves all threads and event loops of a process: keep no state of a call on
    it, and do no I/O.

    What is called to make a request, in this order; Parser has what follows:

    * check_options(), which refuses the options named by `unsupported`; build_path(), base_url() where the
      entry has no BASE_URL, build_auth() with the key where there is one, build_headers(). They depend on
      their arguments alone: they are asked once a call that has options of its own, or whose key is made for
      it by a callable, and once an entry for all other calls;
    * once a call, reasons_inline() and build_body(), in which the entry's EXTRA is merged; build_echo() with
      the outcome, for an answer that wants it.

    Each may raise an UnsupportedFeatureError for what the API can't express and an InvalidRequestError for
    what is wrong with a message: these are raised at the call, before any I/O. For a list of models it is
    build_models_path() and parse_models(), a page at a time; offers() then says whether it has the model.

    `manage.py check` calls check(), check_options(), refused_options() and base_url(), also for an entry that
    lacks most of its options: nothing may be taken for granted of them there.
    """

    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Option]] = COMMON
    required: tuple[str, ...] = ("api_key", "model")
    # Options that the API has no field for, and why.
    unsupported: ClassVar[Mapping[str, str]] = {}
    media: frozenset[str] = frozenset({"image", "document"})
    # Whether the list of models is refused without a good key, so that having it says something of the key;
    # None where that says nothing.
    models_need_key: bool | None = True
    # What `manage.py check` knows without a network: what the provider's keys begin with, and those that last
    # for hours; a model to suggest; and model → its last day, "" where that has passed; a name stands for its
    # dated snapshots too.
    key_prefixes: tuple[str, ...] = ()
    expiring_keys: tuple[str, ...] = ()
    suggested_model: str = ""
    needs_path: bool = False  # whether a BASE_URL without a path can't be right
    shutdowns: Mapping[str, str] = MappingProxyType({})

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name or self.name)

    @classmethod
    def find_lacking(cls) -> str:
        """Return what a class lacks to be a wire, "" where it lacks nothing."""
        lacking = {*cls.__abstractmethods__}
        if cls.media and cls.build_media is Wire.build_media:
            lacking.add("build_media")  # or an empty `media`
        return f"must have {' and '.join(f'{name}()' for name in sorted(lacking))}" if lacking else ""

    # What is sent

    @abstractmethod
    def base_url(self, options: Options) -> str:
        """Return the URL before the path that build_path adds, where the entry has no BASE_URL."""

    @abstractmethod
    def build_path(self, options: Options, stream: bool) -> str:
        """Return the path behind the base URL."""

    def build_auth(self, key: str, options: Options) -> dict[str, str]:
        """Return the header that carries the key."""
        return {"Authorization": f"Bearer {key}"}

    def build_headers(self, options: Options) -> dict[str, str]:
        """Return the headers that the API wants beside the key."""
        return {}

    @abstractmethod
    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        """Return the body, or raise an UnsupportedFeatureError for what it cannot express."""

    def build_models_path(self, options: Options, page: str) -> str:
        """Return the path of the list of models, of the page of it that parse_models named."""
        raise UnsupportedFeatureError(f"{self.driver} has no list of models.")

    def build_echo(self, body: dict[str, Any], options: Options) -> dict[str, Any]:
        """Return what of the request must be known again when its answer comes back in a history."""
        return {}

    def build_media(self, media: Media) -> dict[str, Any]:
        """Return the part for an image, audio or a document that the wire's `media` names."""
        raise UnsupportedFeatureError(
            f"{media.part.where} can't be sent: {self.driver} has no build_media()", param=media.part.where
        )

    def reasons_inline(self, options: Options) -> bool:
        """Return whether reasoning stands in tags at the head of the answer's text."""
        return False

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
        head = self._head(options, stream)
        body = self.build_body(turns, options, stream)
        if options.get("extra"):
            body = merge_dicts(body, reveal(options["extra"]))
        return Request(
            head.url,
            head.headers,
            dump(body),
            stream,
            Secrets(head.secrets),
            elsewhere=options.get("base_url") is not None,
            echo=lambda: self.build_echo(body, options),
            inline_reasoning=self.reasons_inline(options),
        )

    def _head(self, options: Options, stream: bool) -> _Head:
        """Return what a request has beside its body, the same as long as the options are an entry's own."""
        kept = options.heads if isinstance(options, EntryOptions) else {}
        head: _Head | None = kept.get((self, stream))
        if head is None:
            self.check_options(options)
            head = self._make_head(self.build_path(options, stream), options, stream)
            key = options.get("api_key")
            if not key or key.is_fixed:
                kept[self, stream] = head
        return head

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
        head = self._make_head(path, options, stream, method, endpoint)
        elsewhere = options.get("base_url") is not None
        return Request(
            head.url, head.headers, b"", stream, Secrets(head.secrets), method, elsewhere=elsewhere
        )

    def _make_head(
        self, path: str, options: Options, stream: bool, method: str = "POST", endpoint: str = ""
    ) -> _Head:
        """Return a request's URL, its headers and what is secret in it, each wrapped."""
        # Revealed once, since a vault may be asked, and wrapped again: whatever raises here shows its locals.
        key = options["api_key"].ask() if options.get("api_key") else None
        base = options.get("base_url") or SecretURL(self.base_url(options))
        url = Hidden(join_url(base.reveal(), path, endpoint))
        headers = self._headers(key, base, options, stream, method)
        return _Head(url, headers, lambda: secrets_of({**options, "api_key": key, "base_url": base}))

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
        if own := self.build_headers(options):
            headers |= hide(own)
        if chosen := options.get("headers"):
            last = {name.lower(): name for name in chosen}  # entry and call may spell one name in two ways
            headers = MaskedDict({name: value for name, value in headers.items() if name.lower() not in last})
            headers |= {name: chosen[name] for name in last.values()}
        return headers

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

    def parse_models(self, payload: Any) -> tuple[list[str], str]:
        """Return the names on a page of the list of models, and what names the next page, "" after the last.

        The list stands in `payload["data"]` as OpenAI's does, under another usual name, or bare.
        """
        return [name_of(item) for item in models_in(payload)], ""

    def offers(self, model: str, models: list[str]) -> bool | None:
        """Tell whether a model is in the list; None where it may be there though the list lacks it."""
        return model in models

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


def lacks_path(error: EngineError) -> bool:
    """Tell whether an error means that there is no API at a URL, rather than no such model."""
    if re.search(r"(?i)unexpected endpoint", error.message):  # LM Studio, with status 200
        return True
    about_a_model = re.search(r"(?i)(?<![/\w])models?\b|deployment", f"{error.message} {error.type}")
    return error.code in (404, 405, 501) and not (about_a_model or "model" in str(error.type))


def family(model: str) -> str:
    """Return a model's name without the date or the mark of a snapshot."""
    return re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2}|\d{4}|latest)$", "", model)
