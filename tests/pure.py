"""A wire and an exchange without a socket: what would be sent, and what an answer's bytes mean."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bupple_engine import EngineError
from bupple_engine.calls.seams import CLOCK, random
from bupple_engine.conf.naming import load
from bupple_engine.conf.reading import parse_entry
from bupple_engine.drivers.arguments import parse_options
from bupple_engine.drivers.local.driver import LocalWire
from bupple_engine.exchange.exchange import Exchange
from bupple_engine.exchange.verdict import Done, Failed
from bupple_engine.masking import MaskedDict
from bupple_engine.protocol.answer import fold
from bupple_engine.protocol.messages import validate
from bupple_engine.protocol.options import Clocks, merge, protect
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.usage import NO_USAGE, PARTS
from bupple_engine.types import Usage
from bupple_engine.wires.base import Wire
from tests.provider import split
from tests.verbs import Outcome

HELLO: Any = [{"role": "user", "content": "Hello"}]
ENTRY = {"API_KEY": "sk-0123456789abcdef", "MODEL": "m"}
# Services that report a stream's usage unasked, or not at all.
NO_STREAM_OPTIONS = {"cohere", "databricks", "mistral", "perplexity", "zai"}
SIZES = [0, 1, 2, 3, 7]  # of the pieces that bytes are cut into; 0 leaves them whole

# The first bytes of media, in base64, by mime type; a text that has none to be known by.
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
B64 = {
    "image/png": PNG,
    "image/jpeg": base64.b64encode(b"\xff\xd8\xff\xe0").decode(),
    "image/gif": base64.b64encode(b"GIF89a").decode(),
    "image/webp": base64.b64encode(b"RIFF\x01\x02\x03\x04WEBPVP8 ").decode(),
    "image/heic": base64.b64encode(b"\0\0\0\x18ftypheic").decode(),
    "audio/wav": base64.b64encode(b"RIFF\x01\x02\x03\x04WAVEfmt ").decode(),
    "audio/mpeg": base64.b64encode(b"ID3\x04").decode(),
    "audio/aiff": base64.b64encode(b"FORM\x01\x02\x03\x04AIFF").decode(),
    "audio/ogg": base64.b64encode(b"OggS").decode(),
    "audio/flac": base64.b64encode(b"fLaC").decode(),
    "audio/mp4": base64.b64encode(b"\0\0\0\x18ftypM4A ").decode(),
    "application/pdf": base64.b64encode(b"%PDF-1.7").decode(),
}
TEXT = base64.b64encode("Grüße".encode()).decode()


def wire(name: str) -> Wire:
    """Return the wire behind a driver's short name."""
    found = LocalWire(name) if name == "local" else load(name, "tests").wire
    assert found is not None
    return found


def build(
    driver: str | Wire,
    messages: Any = HELLO,
    entry: Mapping[str, Any] | None = None,
    *,
    stream: bool = False,
    **options: Any,
) -> Request:
    """Return the request for a call of a driver whose settings have this entry."""
    it = wire(driver) if isinstance(driver, str) else driver
    known = it.options
    whole = {key: value for key, value in {**ENTRY, **(entry or {})}.items() if key.lower() in known}
    config = parse_entry(protect(whole), known, "tests")
    return it.build_request(validate(messages), merge(config, parse_options(protect(options), known)), stream)


def body(
    driver: str | Wire, messages: Any = HELLO, entry: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """Return the body of that request, parsed."""
    return json.loads(build(driver, messages, entry, **options).body)


def begin(
    driver: str | Wire,
    *,
    stream: bool = True,
    request: Request | None = None,
    max_retries: int = 0,
    clocks: Clocks | None = None,
) -> Exchange:
    """Return an exchange at the start of its first attempt."""
    it = wire(driver) if isinstance(driver, str) else driver
    request = request or Request("http://provider", MaskedDict(), b"{}", stream)
    exchange = Exchange(
        it,
        request,
        alias="it",
        model="m",
        clocks=clocks or Clocks(),
        max_retries=max_retries,
        clock=CLOCK.get(),
        chance=random,
    )
    exchange.open_attempt()
    return exchange


def pieces(raw: bytes, size: int) -> list[bytes]:
    """Cut bytes into pieces of a size; 0 leaves them whole."""
    return split(raw, size) if size else [raw]


def hear(
    exchange: Exchange, parts: Iterable[bytes], status: int = 200, headers: Mapping[str, str] | None = None
) -> Outcome:
    """Feed an answer in pieces, and its end; return what the caller would get."""
    outcome = Outcome()
    try:
        try:
            exchange.receive_head(status, headers or {})
            for part in [*parts, b"", b""]:
                if exchange.finished:
                    break
                outcome.chunks += exchange.receive(part)
        except EngineError as error:
            verdict = exchange.settle(error)
            if isinstance(verdict, Done):
                outcome.chunks += verdict.chunks
            elif isinstance(verdict, Failed):
                outcome.error = verdict.error
                return outcome
    except EngineError as error:
        outcome.error = error
    else:
        if exchange.finished:
            outcome.reply = fold(iter([outcome.chunks])) if exchange.request.stream else exchange.reply()
    return outcome


def answer(
    driver: str | Wire,
    raw: bytes,
    *,
    size: int = 0,
    stream: bool = True,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """Return what a driver makes of an answer."""
    return hear(begin(driver, stream=stream), pieces(raw, size), status, headers)


def check_usage(usage: Any) -> None:
    """Hold a usage to what is promised of every one: its parts fit, its total is their sum, it is JSON."""
    assert json.loads(json.dumps(usage, allow_nan=True)).keys() == usage.keys()
    assert usage.keys() <= Usage.__annotations__.keys()
    counts = [usage[name] for name in NO_USAGE]
    parts = {name: usage.get(name, 0) for name in PARTS}
    assert 0 not in {name: usage[name] for name in PARTS if name in usage}.values()
    assert all(type(number) is int and number >= 0 for number in parts.values())
    if None in counts:
        assert counts == [None, None, None]
        assert not any(number for name, number in parts.items() if name != "searches")
    else:
        prompt, completion, total = counts
        assert all(type(number) is int and number >= 0 for number in counts)
        assert total == prompt + completion
        assert parts["cache_read"] + parts["cache_write"] <= prompt
        assert parts["cache_write_1h"] <= parts["cache_write"]
        assert parts["reasoning"] <= completion
        assert parts["audio_input"] <= prompt
        assert parts["audio_output"] <= completion
    if "cost" in usage:
        assert re.fullmatch(r"\d{1,9}(\.\d{0,9}[1-9])?", usage["cost"])
    if "tier" in usage:
        assert re.fullmatch(r"[a-z_-]+", usage["tier"])


def frames(*payloads: Any, end: str = "\n\n") -> bytes:
    """Return events as bytes; a string stands as it is behind `data: `."""
    texts = (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in payloads)
    return "".join(f"data: {text}{end}" for text in texts).encode()
