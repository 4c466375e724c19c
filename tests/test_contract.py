"""The contract: what holds for every driver and every verb, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from bupple_engine import (
    Attempt,
    AuthenticationError,
    Call,
    ContentFilteredError,
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    ModelNotFoundError,
    Observer,
    OverloadedError,
    ProviderConnectionError,
    ProviderPermissionError,
    ProviderServerError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    StreamInterruptedError,
    ai,
    call_finished,
)
from tests.conftest import Configure
from tests.provider import Answer, Piece, Provider, split
from tests.pure import begin, build, hear
from tests.shapes import SHAPES
from tests.verbs import STREAMS, run
from tests.wires import EVENTS, JSON, KEY, KNOWN, TEXTS, WIRES, Kind, Wire, dump

HELLO = [{"role": "user", "content": "Grüße, 🦜"}]
SIZES = [1, 2, 3, 7, 65_536]
ERRORS: dict[Kind, type[EngineError]] = {
    "auth": AuthenticationError,
    "permission": ProviderPermissionError,
    "quota": QuotaExceededError,
    "rate_limit": RateLimitError,
    "invalid": InvalidRequestError,
    "context": ContextLengthExceededError,
    "content_filter": ContentFilteredError,
    "not_found": ModelNotFoundError,
    "overloaded": OverloadedError,
    "server": ProviderServerError,
}
# What the exchange does on its own, and in real time: every wire would only do it again.
ONE_WIRE = pytest.mark.parametrize("wire", WIRES[1:2], ids=lambda wire: wire.name)


@pytest.fixture(params=[*WIRES, *SHAPES], ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Give each wire, and what some services make of one."""
    found: Wire = request.param
    return found


@pytest.fixture
def driver(wire: Wire, provider: Provider, configure: Configure) -> Any:
    """Give the wire's driver, its entry pointed at the provider, with no retries."""
    configure(it=wire.settings(provider.url, MAX_RETRIES=0))
    return ai()


def body(wire: Wire, verb: str, texts: list[str], **said: Any) -> bytes:
    """Say the same as a reply or as a stream, whichever the verb asks for."""
    if verb in STREAMS:
        return wire.stream(texts, **said)
    reasoning = "".join(said.pop("reasoning", ()))
    return wire.reply("".join(texts), reasoning=reasoning, **said)


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_cut_anywhere_is_the_same_answer(
    wire: Wire, verb: str, driver: Any, provider: Provider, size: int
) -> None:
    provider.answer(Answer(pieces=split(body(wire, verb, TEXTS, reasoning=["Think ", "größer"]), size)))
    outcome = run(driver, verb, HELLO)
    assert outcome.error is None
    reply = outcome.reply
    assert reply["content"] == "".join(TEXTS)
    assert outcome.reasoning == "Think größer"
    assert reply["role"] == "assistant"
    assert reply["model"] == wire.model
    assert reply["finish_reason"] == "stop"
    assert reply["usage"] == {**KNOWN, "raw": reply["usage"]["raw"]}
    json.dumps(reply)
    (request,) = provider.requests
    assert wire.prompt(request) == [("user", HELLO[0]["content"])]
    assert wire.key(request) == KEY
    assert wire.model_asked(request) == wire.model
    assert wire.streamed(request) is (verb in STREAMS)


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_every_framing_of_a_body_is_read(
    wire: Wire, verb: str, driver: Any, provider: Provider, framing: Any
) -> None:
    provider.answer(Answer(body=body(wire, verb, TEXTS), framing=framing))
    assert run(driver, verb, HELLO).reply["content"] == "".join(TEXTS)


def test_exactly_the_last_chunk_is_done(wire: Wire, driver: Any, provider: Provider) -> None:
    provider.answer(Answer(body=wire.stream(TEXTS)), repeat=True)
    for verb in STREAMS:
        chunks = run(driver, verb, HELLO).chunks
        assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert set(chunks[0]) == {"role", "content", "done"}
        assert set(chunks[-1]) == {"role", "content", "done", "model", "usage", "finish_reason", "metadata"}


def test_finish_reasons_are_ours(wire: Wire, verb: str, driver: Any, provider: Provider) -> None:
    for finish in wire.finishes:
        provider.answer(Answer(body=body(wire, verb, ["text"], finish=finish)))
        assert run(driver, verb, HELLO).reply["finish_reason"] == finish


def test_usage_that_was_not_sent_is_none(wire: Wire, verb: str, driver: Any, provider: Provider) -> None:
    provider.answer(Answer(body=body(wire, verb, ["text"], usage=False)))
    usage = run(driver, verb, HELLO).reply["usage"]
    assert usage == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}


def test_a_stream_of_tool_calls_says_so(wire: Wire, driver: Any, provider: Provider) -> None:
    provider.answer(Answer(body=wire.tool_call_stream()), repeat=True)
    for verb in STREAMS:
        assert run(driver, verb, HELLO).reply["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_have_their_class_and_evidence(
    wire: Wire, verb: str, driver: Any, provider: Provider, kind: Kind
) -> None:
    status, headers, text = wire.error(kind, stream=verb in STREAMS)
    provider.answer(Answer(status=status, headers=headers, body=text))
    error = run(driver, verb, HELLO).error
    assert type(error) is ERRORS[kind]
    code = status if status >= 400 else 0  # Gemini blocks a prompt with status 200
    assert (error.code, error.alias, error.model, error.attempts) == (code, "it", wire.model, 1)
    assert error.message
    if wire.request_id_header:
        assert error.request_id == headers[wire.request_id_header]
    if kind == "rate_limit":
        assert error.retry_after == 7


@pytest.mark.parametrize("kind", ["overloaded", "rate_limit"])
def test_an_error_inside_a_stream_keeps_what_had_arrived(
    wire: Wire, driver: Any, provider: Provider, kind: Kind
) -> None:
    provider.answer(Answer(body=wire.stream_error(TEXTS, kind)), repeat=True)
    for verb in STREAMS:
        outcome = run(driver, verb, HELLO)
        assert type(outcome.error) is ERRORS[kind]
        assert outcome.error.in_stream
        assert outcome.text == outcome.error.partial_content == "".join(TEXTS)


@pytest.mark.parametrize("end", ["clean", "cut", "reset"])
def test_a_stream_without_its_end_is_interrupted(
    wire: Wire, driver: Any, provider: Provider, end: str
) -> None:
    whole = wire.stream_without_end(TEXTS)
    # A reset may overtake bytes that were not read yet, so it comes once the client has them.
    pieces: list[Piece] = [whole, 0.1] if end == "reset" else [whole]
    provider.answer(Answer(pieces=pieces, cut=end == "cut", reset=end == "reset"), repeat=True)
    for verb in STREAMS:
        outcome = run(driver, verb, HELLO)
        assert type(outcome.error) is StreamInterruptedError
        assert outcome.text == outcome.error.partial_content == "".join(TEXTS)


def test_a_stream_cut_at_every_byte_is_never_taken_for_whole(wire: Wire) -> None:
    whole = wire.stream(["Grüße ", "🦜"])
    entry = wire.settings("http://provider")
    name = str(entry.pop("DRIVER"))
    request = build(name, entry=entry, stream=True)
    complete_from = None
    for size in range(1, len(whole) + 1):
        outcome = hear(begin(name, request=request), [whole[:size]])
        text = "".join(chunk["content"] for chunk in outcome.chunks)
        if outcome.error is not None:
            assert type(outcome.error) is StreamInterruptedError
            assert complete_from is None
            assert "Grüße 🦜".startswith(text)
        else:
            complete_from = complete_from or size
            assert text == "Grüße 🦜"
            assert outcome.chunks[-1]["done"]
    assert complete_from is not None


@pytest.mark.parametrize("end", ["cut", "reset"])
@pytest.mark.parametrize("kind", ["overloaded", "rate_limit"])
def test_an_error_that_came_whole_wins_over_the_break_behind_it(
    wire: Wire, driver: Any, provider: Provider, kind: Kind, end: str
) -> None:
    raw = wire.stream_error(TEXTS, kind)
    for told in (raw, raw.rstrip()):  # its event, and that without the blank line which would end it
        pieces: list[Piece] = [told, 0.1] if end == "reset" else [told]
        provider.answer(Answer(pieces=pieces, cut=end == "cut", reset=end == "reset"), repeat=True)
        for verb in STREAMS:
            outcome = run(driver, verb, HELLO)
            assert type(outcome.error) is ERRORS[kind]
            assert outcome.text == outcome.error.partial_content == "".join(TEXTS)


# What services do to an answer, on whatever wire: its bytes, and what they still say.


def joined(raw: bytes) -> bytes:
    """Leave the blank line between two events out."""
    end = b"\r\n" if b"\r\n" in raw else b"\n"
    return raw.rstrip().replace(end * 2, end) + end * 2


def between(raw: bytes, *idle: bytes) -> bytes:
    """Put something between the events that keeps a connection alive."""
    end = b"\r\n\r\n" if b"\r\n" in raw else b"\n\n"
    frames = raw.split(end)
    return end.join(each for pair in zip(frames, idle * len(frames), strict=False) for each in pair)


IDLE = [
    b"data: null",
    b"data: []",
    b'data: ""',
    b"data: : keep-alive",
    b"data: ping",
    b"data: [KEEPALIVE]",
    b'data: "heartbeat"',
    b"event: ping\ndata: 7",
    b": a comment",
]
EMPTY_ERROR = b'"error":{"message":"","type":null,"code":0,"details":[]},'
ODD_STREAMS: dict[str, Any] = {
    "a number": lambda wire: wire.stream(["It is ", "7", "!"]).replace(b'"7"', b"7"),
    "a zero": lambda wire: wire.stream(["It is ", "0", "!"]).replace(b'"0"', b"0"),
    "a truth": lambda wire: wire.stream(["It is ", "true", "!"]).replace(b'"true"', b"true"),
    "no blank lines": lambda wire: joined(wire.stream(["It is ", "7", "!"])),
    "idle events": lambda wire: between(wire.stream(["It is ", "7", "!"]), *IDLE),
    "halves": lambda wire: wire.stream(["On @", "# off"]).replace(b"@", rb"\ud83e").replace(b"#", rb"\udd9c"),
    "a half alone": lambda wire: wire.stream(["On @", " off"]).replace(b"@", rb"\ud83e"),
    "a half at the end": lambda wire: wire.stream(["On", " @"]).replace(b"@", rb"\uD83E"),
    "a raw control character": lambda wire: wire.stream(["a@b", "c"]).replace(b"@", b"\t"),
    "NaN": lambda wire: wire.stream(["It is ", "7"]).replace(b"{", b'{"score":NaN,"bound":-Infinity,', 1),
    "an error with nothing in it": lambda wire: wire.stream(["a", "b"]).replace(
        b"data: {", b"data: {" + EMPTY_ERROR
    ),
}
ODD_TEXTS = {
    "a number": "It is 7!",
    "a zero": "It is 0!",
    "a truth": "It is true!",
    "no blank lines": "It is 7!",
    "idle events": "It is 7!",
    "halves": "On 🦜 off",
    "a half alone": "On \ufffd off",
    "a half at the end": "On \ufffd",
    "a raw control character": "a\tbc",
    "NaN": "It is 7",
    "an error with nothing in it": "ab",
}


@pytest.mark.parametrize("oddity", ODD_STREAMS)
def test_an_odd_stream_says_what_it_says(
    wire: Wire, verb: str, driver: Any, provider: Provider, oddity: str
) -> None:
    """Also where none was asked for: some services can do nothing else."""
    raw = ODD_STREAMS[oddity](wire)
    # Where it was asked for, it needs no label.
    headers = {} if verb in STREAMS else EVENTS
    for size in (1, 7, 65_536):
        provider.answer(Answer(headers=headers, pieces=split(raw, size)))
        outcome = run(driver, verb, HELLO)
        assert outcome.error is None
        assert outcome.reply["content"] == ODD_TEXTS[oddity]
        assert outcome.reply["finish_reason"] == "stop"
        assert KNOWN.items() <= outcome.reply["usage"].items()
        json.dumps(outcome.reply, ensure_ascii=False).encode()


@pytest.mark.parametrize("headers", [JSON, EVENTS, {}], ids=["JSON", "events", "no label"])
def test_the_form_of_an_answer_is_its_own(
    wire: Wire, verb: str, driver: Any, provider: Provider, headers: dict[str, str]
) -> None:
    for raw in (wire.reply("".join(TEXTS), reasoning="hm"), wire.stream(TEXTS, reasoning=["h", "m"])):
        for size in (1, 65_536):
            provider.answer(Answer(headers=headers, pieces=split(raw, size)))
            outcome = run(driver, verb, HELLO)
            assert (outcome.error, outcome.reasoning) == (None, "hm")
            assert outcome.reply["content"] == "".join(TEXTS)
            assert KNOWN.items() <= outcome.reply["usage"].items()


def test_an_error_inside_a_stream_that_was_not_asked_for_is_tried_again(
    wire: Wire, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=1))
    for verb in ("send", "asend"):
        failed = Answer(headers=EVENTS, body=wire.stream_error(TEXTS, "server"))
        provider.answer(failed, Answer(headers=EVENTS, body=wire.stream(TEXTS)))
        assert run(ai(), verb, HELLO).reply["content"] == "".join(TEXTS)


@pytest.mark.parametrize("said", ["mark", "whole", "part"])
def test_what_the_end_repeats_is_added_where_it_is_missing(
    wire: Wire, driver: Any, provider: Provider, said: str
) -> None:
    """A stream's end has all of the answer again: behind all of its pieces, behind some, or behind none."""
    pieces = {"mark": [], "whole": ["One ", "two ", "three"], "part": ["One ", "tw"]}[said]
    raw = wire.stream_repeated(pieces, "One two three", "so")
    for size in (1, 65_536):
        provider.answer(Answer(pieces=split(raw, size)), repeat=True)
        for verb in STREAMS:
            outcome = run(driver, verb, HELLO)
            assert outcome.error is None
            assert (outcome.text, outcome.reasoning) == ("One two three", "so")
            assert outcome.reply["finish_reason"] == "stop"


@pytest.mark.parametrize("raw", [b"", b"data: [DONE]\n\n", b": ping\n\n", b"data: null\n\n"])
def test_a_stream_that_says_nothing_is_no_answer(
    wire: Wire, driver: Any, provider: Provider, raw: bytes
) -> None:
    provider.answer(Answer(headers=EVENTS, body=raw), repeat=True)
    for verb in STREAMS:
        error = run(driver, verb, HELLO).error
        assert type(error) is StreamInterruptedError
        assert (error.retryable, error.partial_content) == (True, "")


@pytest.mark.parametrize(
    "flat",
    [
        {"error_code": 17, "error_msg": "Out of luck"},
        {"success": False, "errors": [{"code": 17, "message": "Out of luck"}], "result": {}},
        {"base_resp": {"status_code": 17, "status_msg": "Out of luck"}, "choices": None},
        {"code": 17, "msg": "Out of luck"},
        {"detail": "Out of luck"},
    ],
    ids=lambda flat: next(iter(flat)),
)
def test_an_error_in_a_shape_of_its_own_is_one(
    wire: Wire, verb: str, driver: Any, provider: Provider, flat: Any
) -> None:
    for raw in (dump(flat).encode(), f"data: {dump(flat)}\n\ndata: [DONE]\n\n".encode()):
        provider.answer(Answer(body=raw))
        error = run(driver, verb, HELLO).error
        assert isinstance(error, EngineError)
        assert error.message == "Out of luck"


@pytest.mark.parametrize("kind", ["context", "quota", "auth"])
def test_an_error_that_a_router_wraps_keeps_its_meaning(
    wire: Wire, verb: str, driver: Any, provider: Provider, kind: Kind
) -> None:
    _, _, told = wire.error(kind)
    upstream = json.loads(told)
    wraps = [
        {"message": "Provider returned error", "code": 400, "metadata": {"raw": told.decode()}},
        {"message": "Upstream error", "code": 400, "metadata": {"raw": upstream}},
        {"message": told.decode(), "code": 400},
        {"message": f"litellm.BadRequestError: {told.decode()}", "code": "400"},
    ]
    for wrap in wraps:
        provider.answer(Answer(400, JSON, dump({"error": wrap}).encode()))
        error = run(driver, verb, HELLO).error
        assert type(error) is ERRORS[kind]
        words = upstream["error"]["message"].replace(KEY, "…abcd")
        assert (
            words in error.message
            or words in json.loads(error.message.partition(": ")[2])["error"]["message"]
        )


@pytest.mark.parametrize("spelling", [str.upper, str.title, lambda word: word.replace("_", "-")])
def test_a_word_for_the_end_is_known_in_any_spelling(
    wire: Wire, verb: str, driver: Any, provider: Provider, spelling: Any
) -> None:
    for finish, word in wire.finishes.items():
        if finish == "unknown" or word == "completed":
            continue
        raw = body(wire, verb, ["text"], finish=finish)
        provider.answer(Answer(body=raw.replace(dump(word).encode(), dump(spelling(word)).encode())))
        assert run(driver, verb, HELLO).reply["finish_reason"] == finish


def test_a_refused_connection_is_told_as_one(
    wire: Wire, verb: str, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings("http://127.0.0.1:9", MAX_RETRIES=0))
    error = run(ai(), verb, HELLO).error
    assert type(error) is ProviderConnectionError
    assert "Connect" in str(error) or "connect" in str(error)


@ONE_WIRE
def test_retries_end_in_an_answer(wire: Wire, verb: str, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url))
    status, headers, text = wire.error("overloaded", stream=verb in STREAMS)
    provider.answer(
        Answer(disconnect="request"),
        Answer(status=status, headers={**headers, "retry-after-ms": "1"}, body=text),
        Answer(body=body(wire, verb, TEXTS)),
    )
    assert run(ai(), verb, HELLO).reply["content"] == "".join(TEXTS)
    assert len({request.body for request in provider.requests}) == 1


class Attempts(Observer):
    """Keep the attempts of a call."""

    def __init__(self) -> None:
        self.found: list[Attempt] = []

    def attempt(self, call: Call, attempt: Attempt) -> None:
        self.found.append(attempt)


def test_an_attempt_without_a_head_has_no_request_id(
    wire: Wire, verb: str, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=1))
    _, _, text = wire.error("overloaded", stream=verb in STREAMS)
    # Behind a kept connection the transport itself would ask again.
    said = {**JSON, "retry-after-ms": "1", "connection": "close"}
    named = {**said, wire.request_id_header or "x-request-id": "first"}
    provider.answer(Answer(status=503, headers=named, body=text), Answer(disconnect="request"))
    attempts = Attempts()
    error = run(ai(), verb, HELLO, observers=attempts).error
    assert type(error) is ProviderConnectionError
    assert (error.request_id, error.attempts) == (None, 2)
    assert [attempt.request_id for attempt in attempts.found] == ["first", None]


def test_a_stream_is_retried_until_its_first_content_only(
    wire: Wire, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    for verb in STREAMS:
        provider.answer(Answer(pieces=[], cut=True), Answer(body=wire.stream_without_end(["a"])))
        outcome = run(ai(), verb, HELLO)
        assert type(outcome.error) is StreamInterruptedError
        assert (outcome.text, outcome.error.attempts) == ("a", 2)


@ONE_WIRE
@pytest.mark.parametrize("clock", ["first_token", "idle", "total"])
def test_the_clocks_run_out(
    wire: Wire, verb: str, provider: Provider, configure: Configure, clock: str
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=0, TIMEOUT={clock: 0.3}))
    silence = threading.Event()
    text = body(wire, verb, TEXTS)
    if verb not in STREAMS and clock != "total":
        # A whole answer may be late: connect and total are all that send() has.
        provider.answer(Answer(pieces=[text[:20], 0.5, text[20:]]))
        assert run(ai(), verb, HELLO).reply["content"] == "".join(TEXTS)
        return
    # The comments are activity, which resets the idle clock alone.
    pings: list[Any] = [b": ping\n\n" if verb in STREAMS else b" ", 0.05] * 20
    pieces: list[Any] = [text[:20], silence] if clock == "idle" else [*pings, silence]
    provider.answer(Answer(pieces=pieces))
    started = time.monotonic()
    error = run(ai(), verb, HELLO).error
    assert isinstance(error, ProviderTimeoutError)
    assert error.clock == clock
    assert 0.25 < time.monotonic() - started < 15


def test_the_signal_is_sent_once_a_call(wire: Wire, verb: str, driver: Any, provider: Provider) -> None:
    heard: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        heard.append(facts)

    call_finished.connect(listen)
    try:
        status, headers, text = wire.error("auth", stream=verb in STREAMS)
        provider.answer(
            Answer(body=body(wire, verb, TEXTS)), Answer(status=status, headers=headers, body=text)
        )
        run(driver, verb, HELLO, context={"user": 7})
        run(driver, verb, HELLO)
    finally:
        call_finished.disconnect(listen)
    complete, failed = heard
    assert (complete["outcome"], complete["alias"], complete["context"]) == ("complete", "it", {"user": 7})
    assert complete["usage"] == {**KNOWN, "raw": complete["usage"]["raw"]}
    assert (failed["outcome"], type(failed["error"])) == ("failed", AuthenticationError)


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_reply_is_a_message(wire: Wire, verb: str, driver: Any, provider: Provider, finish: str) -> None:
    provider.answer(
        Answer(body=body(wire, verb, ["Hi ", "there"], reasoning=["hm"], finish=finish)), repeat=True
    )
    messages: list[Any] = [*HELLO]
    messages.append(run(driver, verb, messages).reply)
    messages.append({"role": "user", "content": "Again"})
    assert run(driver, verb, messages).error is None
    prompt = wire.prompt(provider.requests[1])
    assert [(role, text) for role, text in prompt if role == "user"] == [
        ("user", "Grüße, 🦜"),
        ("user", "Again"),
    ]
    assert "".join(text for role, text in prompt if role == "assistant") == "Hi there"


def test_the_signal_knows_when_the_first_chunk_came(configure: Configure) -> None:
    heard: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        heard.append(facts)

    configure(echo={"DELAY": 0.01})
    call_finished.connect(listen)
    try:
        run(ai(), "stream", HELLO)
    finally:
        call_finished.disconnect(listen)
    assert 0.01 <= heard[0]["time_to_first_chunk"] <= heard[0]["duration"]
