"""The shortest call: a string for the messages, system= before them, and lazy translations for strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from bupple_engine import InvalidRequestError, ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.http import PlainText, astream_response, stream_response
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.verbs import VERBS, run
from tests.wires import WIRES, Wire

ASKED: list[Any] = []


class Notes(ChatDriver):
    """Note the messages as a driver of a site's own sees them."""

    def generate(self, messages: Any, options: Any) -> Any:
        ASKED.append(messages)
        yield {"content": "Noted."}
        yield {"done": True}


@pytest.fixture
def notes(configure: Configure) -> list[Any]:
    """Give what a driver of one's own is asked."""
    configure(notes={"DRIVER": f"{__name__}.Notes"})
    ASKED.clear()
    return ASKED


USER = {"role": "user", "content": "Who wrote Faust?"}
SYSTEM = {"role": "system", "content": "Answer briefly."}
IN_GERMAN = {"role": "system", "content": "In German."}
HISTORY = [USER, {"role": "assistant", "content": "Goethe."}, {"role": "user", "content": "When?"}]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("messages", "system", "seen"),
    [
        ("Who wrote Faust?", None, [USER]),
        ("Who wrote Faust?", "Answer briefly.", [SYSTEM, USER]),
        (HISTORY, "Answer briefly.", [SYSTEM, *HISTORY]),
        ((USER,), "Answer briefly.", [SYSTEM, USER]),
        ([IN_GERMAN, USER], "Answer briefly.", [SYSTEM, IN_GERMAN, USER]),
        (gettext_lazy("Who wrote Faust?"), gettext_lazy("Answer briefly."), [SYSTEM, USER]),
        (SimpleLazyObject(lambda: "Who wrote Faust?"), None, [USER]),
        ([{"role": "user", "content": gettext_lazy("Who wrote Faust?")}], None, [USER]),
    ],
)  # fmt: skip
def test_a_driver_of_ones_own_sees_plain_messages(
    verb: str, messages: Any, system: Any, seen: Any, notes: list[Any]
) -> None:
    assert run(ai(), verb, messages, system=system).reply["content"] == "Noted."
    assert notes == [seen]
    assert json.loads(json.dumps(notes)) == [seen]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_the_wire_carries_both(wire: Wire, verb: str, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url))
    streamed = verb in ("stream", "astream")
    provider.answer(Answer(body=wire.stream(["Goethe."]) if streamed else wire.reply("Goethe.")))
    assert run(ai(), verb, "Who wrote Faust?", system="Answer briefly.").reply["content"] == "Goethe."
    (request,) = provider.requests
    body = request.body.decode()
    assert (body.count("Answer briefly."), body.count("Who wrote Faust?")) == (1, 1)


SHORT: dict[str, Any] = {
    "messages": "Who wrote Faust?",
    "system": gettext_lazy("Answer briefly."),
    "dialect": PlainText(),
}


def test_a_response_streams_the_answer_to_a_string(notes: list[Any]) -> None:
    assert b"".join(stream_response(RequestFactory().get("/"), **SHORT)) == b"Noted."
    assert notes == [[SYSTEM, USER]]


async def test_an_asynchronous_response_streams_the_answer_to_a_string(notes: list[Any]) -> None:
    response: Any = await astream_response(AsyncRequestFactory().get("/"), **SHORT)
    assert b"".join([piece async for piece in response]) == b"Noted."
    assert notes == [[SYSTEM, USER]]


@pytest.mark.parametrize("verb", VERBS)
def test_a_lazy_string_in_parts_and_options_is_one(
    verb: str, provider: Provider, configure: Configure
) -> None:
    wire = next(wire for wire in WIRES if wire.name == "openai_chat")
    configure(it={**wire.settings(provider.url), "MODEL": gettext_lazy("model-of-the-entry")})
    streamed = verb in ("stream", "astream")
    provider.answer(Answer(body=wire.stream(["Yes"]) if streamed else wire.reply("Yes")), repeat=True)
    parts = [{"type": "text", "content": gettext_lazy("Is it raining?")}]
    messages = [{"role": "user", "content": parts}]
    run(ai(), verb, messages, stop=[gettext_lazy("END")])
    run(ai("it", model=gettext_lazy("model-of-ai")), verb, messages, stop=gettext_lazy("END"))
    first, second = (json.loads(request.body) for request in provider.requests)
    assert (first["model"], second["model"]) == ("model-of-the-entry", "model-of-ai")
    assert first["stop"] == second["stop"] == ["END"]
    assert "Is it raining?" in json.dumps(first["messages"])
    assert type(parts[0]["content"]) is not str  # the caller's own are left as they were


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("messages", "system", "param", "words"),
    [
        ("", None, "messages", 'ai().send("Hello!")'),
        (" \n", None, "messages", "blank"),
        (gettext_lazy(" "), None, "messages", "blank"),
        ("Hello", 7, "system", "must be a string, not an int"),
        ("Hello", [SYSTEM], "system", "must be a string, not a list"),
        ("Hello", "\ud800", "system", "lone surrogate"),
        (b"Hello", None, "messages", "not bytes"),
        ([USER, {**USER, "role": "boss"}], "Answer briefly.", 'messages[1]["role"]', "boss"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_the_callers_own_names(
    verb: str, messages: Any, system: Any, param: str, words: str, notes: list[Any]
) -> None:
    error = run(ai(), verb, messages, system=system).error
    assert isinstance(error, InvalidRequestError)
    assert error.param == param
    assert words in str(error)
    assert not notes
