"""What callers pass: every bad message is told by its name before any I/O, and media are understood."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest

from bupple_engine import InvalidRequestError, UnsupportedFeatureError, ai
from bupple_engine.protocol.media import Media, decode_text, description, resolve
from bupple_engine.protocol.messages import Part, validate
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.pure import B64, PNG, TEXT, body
from tests.verbs import VERBS, run
from tests.wires import WIRES, Wire

USER = {"role": "user", "content": "Hello"}


def third(**message: Any) -> list[Any]:
    """Put a message behind two good ones."""
    return [{"role": "system", "content": "Be brief"}, USER, message]


def listed(*parts: Any) -> list[Any]:
    """Put parts into the third message."""
    return third(role="user", content=list(parts))


# What is passed, the item that the error names, and a word of what it says of it.
BAD: dict[str, tuple[Any, str, str]] = {
    "none": (None, "messages", "not None"),
    "a string": ("Hello", "messages", "not a str"),
    "bytes": (b"Hello", "messages", "not bytes; decode it"),
    "one message": (USER, "messages", "not a dict"),
    "a number": (7, "messages", "must be a string or a list of messages, not an int"),
    "empty": ([], "messages", "empty"),
    "an empty generator": (iter([]), "messages", "empty"),
    "blank instructions": ([{"role": "system", "content": "\t"}], 'messages[0]["content"]', "blank"),
    "blank user": ([{"role": "user", "content": " \n"}], 'messages[0]["content"]', "blank"),
    "no dict": ([USER, "Hello"], "messages[1]", "not a str"),
    "null": ([None], "messages[0]", "not None"),
    "role missing": (third(content="x"), 'messages[2]["role"]', "missing"),
    "role null": (third(role=None, content="x"), 'messages[2]["role"]', "missing"),
    "role empty": (third(role="", content="x"), 'messages[2]["role"]', "empty"),
    "role unknown": (third(role="tool", content="x"), 'messages[2]["role"]', "'tool'"),
    "role in capitals": (third(role="User", content="x"), 'messages[2]["role"]', "'User'"),
    "role of another type": (third(role=["user"], content="x"), 'messages[2]["role"]', "['user']"),
    "content missing": (third(role="user"), 'messages[2]["content"]', "missing"),
    "content null": (third(role="user", content=None), 'messages[2]["content"]', "not None"),
    "content a number": (third(role="user", content=7), 'messages[2]["content"]', "not an int"),
    "content bytes": (third(role="user", content=b"x"), 'messages[2]["content"]', "not bytes"),
    "content a dict": (third(role="user", content={}), 'messages[2]["content"]', "not a dict"),
    "content an empty list": (third(role="user", content=[]), 'messages[2]["content"]', "empty list"),
    "half a character": (third(role="user", content="\ud83d"), 'messages[2]["content"]', "surrogate"),
    "type unknown": (third(role="user", content="x", type="video"), 'messages[2]["type"]', "'video'"),
    "type of another type": (third(role="user", content="x", type=[]), 'messages[2]["type"]', "[]"),
    "type beside a list": (
        third(role="user", content=[USER], type="image"),
        'messages[2]["type"]',
        "each part",
    ),
    "key unknown": (third(role="user", content="x", contents="y"), 'messages[2]["contents"]', "'content'"),
    "key no string": ([{**USER, 7: 8}], "messages[0][7]", "unknown"),
    "metadata a string": (
        third(role="user", content="x", metadata="y"),
        'messages[2]["metadata"]',
        "not a str",
    ),
    "media empty": (third(role="user", content="", type="image"), 'messages[2]["content"]', "empty"),
    "part no dict": (listed("Hello"), 'messages[2]["content"][0]', "not a str"),
    "part without content": (listed({"type": "text"}), 'messages[2]["content"][0]["content"]', "missing"),
    "part's content null": (listed({"content": None}), 'messages[2]["content"][0]["content"]', "not None"),
    "part in a part": (
        listed({"content": "x"}, {"content": []}),
        'messages[2]["content"][1]["content"]',
        "not a list",
    ),
    "part's type": (
        listed({"type": "input_text", "content": "x"}),
        'messages[2]["content"][0]["type"]',
        "input",
    ),
    "part's key": (listed({"content": "x", "role": "user"}), 'messages[2]["content"][0]["role"]', "unknown"),
    "a vendor's part": (
        listed({"type": "text", "text": "x"}),
        'messages[2]["content"][0]["text"]',
        "unknown",
    ),
    "part's metadata": (
        listed({"content": "x", "metadata": []}),
        'messages[2]["content"][0]["metadata"]',
        "not a list",
    ),
}


@pytest.mark.parametrize(("messages", "where", "word"), BAD.values(), ids=BAD)
def test_a_bad_message_is_told_by_its_name(messages: Any, where: str, word: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(messages)
    error = caught.value
    assert (type(error), error.code, error.param) == (InvalidRequestError, 0, where)
    assert str(error).startswith(f"{where} ")
    assert word in str(error)


# What a driver, not the check of messages, finds wrong; still before any I/O.
BAD_MEDIA: dict[str, tuple[dict[str, Any], type[InvalidRequestError], str]] = {
    "no base64": ({"content": "cat.png"}, InvalidRequestError, 'messages[0]["content"]'),
    "another scheme": ({"content": "ftp://host/cat.png"}, InvalidRequestError, 'messages[0]["content"]'),
    "no mime type": ({"content": "AAAA"}, InvalidRequestError, 'messages[0]["content"]'),
    "a data URL without data": ({"content": "data:image/png"}, InvalidRequestError, 'messages[0]["content"]'),
    "nothing": ({"content": "data:image/png;base64,"}, InvalidRequestError, 'messages[0]["content"]'),
    "of the assistant": ({"role": "assistant", "content": PNG}, UnsupportedFeatureError, "messages[0]"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("driver", "case"), [(None, ""), *((wire, case) for wire in WIRES for case in BAD_MEDIA)]
)
async def test_bad_messages_fail_at_the_call(
    driver: Wire | None, case: str, verb: str, provider: Provider, configure: Configure
) -> None:
    if driver:
        configure(it=driver.settings(provider.url))
        message, expected, where = BAD_MEDIA[case]
        messages: Any = [{"role": "user", "type": "image", **message}, USER]
    else:
        configure(it={"DRIVER": "echo"})
        messages, expected, where = [{**USER, "rol": "user"}], InvalidRequestError, 'messages[0]["rol"]'
    if verb == "asend":
        call = ai().asend(messages)  # a coroutine has not begun
        with pytest.raises(expected) as caught:
            await call
    else:
        with pytest.raises(expected) as caught:
            getattr(ai(), verb)(messages)
    assert (type(caught.value), caught.value.code, caught.value.param) == (expected, 0, where)
    assert provider.connections == 0


def test_a_conversation_may_be_any_iterable() -> None:
    assert [turn.role for turn in validate(iter([USER]))] == ["user"]
    (turn,) = validate(({"role": "user", "content": ({"content": "a"}, {"content": "b", "type": None})},))
    assert [(part.type, part.content, part.where) for part in turn.parts] == [
        ("text", "a", 'messages[0]["content"][0]'),
        ("text", "b", 'messages[0]["content"][1]'),
    ]
    assert turn.text == "a\n\nb"


def test_a_reply_is_welcome_as_it_is(configure: Configure) -> None:
    configure(it={"DRIVER": "echo"})
    reply = run(ai(), "send", [USER]).reply
    assert json.loads(json.dumps(reply)) == reply
    assert run(ai(), "send", [USER, reply, USER]).reply["content"] == "Hello"
    empty = {**reply, "content": "", "metadata": None}
    assert [turn.is_blank for turn in validate([USER, empty])] == [False, True]


def test_messages_are_left_as_they_were(provider: Provider, configure: Configure) -> None:
    configure(it={"DRIVER": "claude", "API_KEY": "k", "MODEL": "m", "BASE_URL": provider.url})
    messages = [
        {"role": "user", "content": [{"content": PNG, "type": "image"}]},
        {**USER, "metadata": {"a": 1}},
    ]
    before = json.dumps(messages)
    provider.answer(Answer(500))
    run(ai(max_retries=0), "send", messages)
    assert json.dumps(messages) == before


# Media


def media(content: str, kind: str = "image", **metadata: Any) -> Media:
    """Resolve a part."""
    return resolve(Part(kind, content, metadata, "messages[0]"))


@pytest.mark.parametrize(("mime", "data"), B64.items(), ids=B64)
def test_a_mime_type_is_told_by_the_data(mime: str, data: str) -> None:
    for content in (data, f"data:;base64,{data}", f" {data[:4]}\n{data[4:]}\n"):
        found = media(content)
        assert (found.url, found.data, found.mime_type) == (None, data, mime)
        assert found.data_url == f"data:{mime};base64,{data}"


@pytest.mark.parametrize(
    ("content", "metadata", "mime", "url"),
    [
        ("https://host/cat.png", {}, "image/png", True),
        ("HTTPS://host/cat.JPG?size=1", {}, "image/jpeg", True),
        ("http://host/cat", {}, None, True),
        ("http://host/cat", {"mime_type": "image/webp"}, "image/webp", True),
        ("http://host/cat.png", {"format": "jpg"}, "image/jpeg", True),
        (f"data:image/PNG;base64,{PNG}", {}, "image/png", False),
        (f"DATA:image/png;charset=x;BASE64,{PNG}", {}, "image/png", False),
        (f"data:image/png;base64,{PNG.replace('=', '%3D')}", {}, "image/png", False),
        (f"data:image/png;base64,{PNG}", {"mime_type": "image/apng"}, "image/apng", False),
        ("data:text/plain,Gr%C3%BC%C3%9Fe", {}, "text/plain", False),
        (TEXT, {"mime_type": "text/PLAIN"}, "text/plain", False),
        (TEXT, {"format": "md"}, "text/markdown", False),
        (TEXT, {"format": "MP3"}, "audio/mpeg", False),
        (TEXT, {"filename": "notes.txt"}, "text/plain", False),
        (TEXT, {"filename": "a.b.CSV"}, "text/csv", False),
        (PNG, {"mime_type": 7, "format": ""}, "image/png", False),
        (PNG, {"filename": "cat.jpg"}, "image/png", False),
        # The bytes know better than a label of their kind, and a label has one name.
        (f"data:image/jpeg;base64,{PNG}", {}, "image/png", False),
        (PNG, {"mime_type": "image/webp"}, "image/png", False),
        (B64["audio/wav"], {"format": "mp3"}, "audio/wav", False),
        (f"data:image/jpg;base64,{B64['image/jpeg']}", {}, "image/jpeg", False),
        (TEXT, {"mime_type": "image/jpg"}, "image/jpeg", False),
        ("https://host/cat", {"mime_type": "image/JPG"}, "image/jpeg", True),
        (f"data:audio/x-wav;base64,{B64['audio/wav']}", {}, "audio/wav", False),
        (f"data:text/plain;base64,{PNG}", {}, "text/plain", False),
        (f"data:application/octet-stream;base64,{PNG}", {}, "image/png", False),
        (f"data:image/*;base64,{PNG}", {}, "image/png", False),
        (f"data:image/bmp;base64,{PNG}", {}, "image/png", False),
        (f"data:image/jpeg; base64,{PNG}", {}, "image/png", False),
        (f"data:base64,{PNG}", {}, "image/png", False),
        (f"data:image/png,{PNG}", {}, "image/png", False),
        (f"data:audio/opus;base64,{B64['audio/ogg']}", {}, "audio/opus", False),
        ("data:,Hello", {}, "text/plain", False),
    ],
)  # fmt: skip
def test_a_mime_type_is_told_by_metadata_and_address(
    content: str, metadata: dict[str, Any], mime: str | None, url: bool
) -> None:
    found = media(content, **metadata)
    assert found.mime_type == mime
    assert found.url == (content if url else None)


@pytest.mark.parametrize("size", [6, 7, 8, 9])
def test_base64_with_one_reading_is_read(size: int) -> None:
    data = b"\xff\xd8\xff\xfb\xef\xbe" + bytes(size)
    right = base64.b64encode(data).decode()
    assert {"+", "/"} & {*right}
    safe = base64.urlsafe_b64encode(data).decode()
    for form in (
        right,
        right.rstrip("="),
        right.rstrip("=") + "=",
        right + "==",
        safe,
        safe.rstrip("="),
        " \t".join(safe),
        right.replace("=", "%3D"),
    ):
        for content in (form, f"data:image/png;base64,{form}"):
            found = media(content)
            assert (found.data, found.mime_type) == (right, "image/jpeg")


@pytest.mark.parametrize(
    ("kind", "data", "label", "mime"),
    [
        ("document", "application/pdf", "application/octet-stream", "application/pdf"),
        ("document", "application/pdf", "application/msword", "application/pdf"),
        ("document", "image/png", "application/pdf", "application/pdf"),
        ("audio", "audio/mpeg", "video/mp4", "audio/mpeg"),
        ("audio", "audio/wav", "audio/webm", "audio/wav"),
    ],
)
def test_the_first_bytes_know_better_than_a_label(kind: str, data: str, label: str, mime: str) -> None:
    assert media(f"data:{label};base64,{B64[data]}", kind).mime_type == mime


@pytest.mark.parametrize("charset", ["iso-8859-1", "UTF-16", '"utf-8"'])
def test_a_text_is_read_in_the_charset_of_its_data_url(charset: str) -> None:
    data = base64.b64encode("Grüße".encode(charset.strip('"'))).decode()
    assert media(f"data:text/plain;charset={charset};base64,{data}", "document").data == TEXT
    with pytest.raises(InvalidRequestError, match="charset"):
        media("data:text/plain;charset=klingon,Hi", "document")


@pytest.mark.parametrize("odd", ["{}!", "{}=A", "{}-+", "A\u00a0{}", "{}é", "A{}"])
def test_what_is_no_base64_in_any_reading_is_told(odd: str) -> None:
    with pytest.raises(InvalidRequestError, match="base64"):
        media("data:image/png;base64," + odd.format(PNG.rstrip("=")[:20]))


@pytest.mark.parametrize("between", [" ", "\n", "%20"])
def test_white_space_in_media_costs_no_memory(between: str) -> None:
    """An object a character would take twenty times the text."""
    text = between.join(PNG[:20] + "A" * 400_000)
    tracemalloc.start()
    try:
        found = media(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.data) == 400_020
    assert peak < 10 * len(text)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (TEXT, 'messages[0]["metadata"]["mime_type"]'),
        ("data:;base64," + TEXT, "mime_type"),
        ("cat.png", "base64"),
        ("AAA", "base64"),
        ("AA=A", "base64"),
        ("data:image/png;base64,%", "base64"),
        ("data:image/png", "comma"),
        ("file:///etc/passwd", "http(s)"),
        ("data:image/png,", "no data"),
        (" ", "no data"),
    ],
)
def test_what_is_no_media_is_told(content: str, word: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        media(content)
    assert caught.value.param == 'messages[0]["content"]'
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "metadata", "shown"),
    [
        (B64["audio/mpeg"], "audio", {}, ("mp3", "audio.mp3")),
        (B64["audio/mp4"], "audio", {}, ("m4a", "audio.m4a")),
        (PNG, "audio", {"mime_type": "audio/x-wav"}, ("wav", "audio.wav")),
        (PNG, "audio", {"format": "WAV"}, ("wav", "audio.wav")),
        (B64["application/pdf"], "document", {}, ("pdf", "document.pdf")),
        (B64["application/pdf"], "document", {"filename": "a b.pdf"}, ("pdf", "a b.pdf")),
        ("https://host/x", "document", {}, ("", "document.bin")),
    ],
)
def test_media_have_a_format_and_a_name(
    content: str, kind: str, metadata: dict[str, Any], shown: tuple[str, str]
) -> None:
    found = media(content, kind, **metadata)
    assert (found.format, found.filename) == shown


def test_what_is_said_beside_media() -> None:
    part = Part("image", PNG, {"caption": "A cat", "description": 7, "detail": "low"}, "messages[0]")
    assert description(part) == "A cat\n7"
    assert decode_text(media(TEXT, mime_type="text/plain")) == "Grüße"


def test_a_transcript_stands_in_for_audio_that_the_assistant_spoke() -> None:
    said = {
        "role": "assistant",
        "type": "audio",
        "content": B64["audio/mpeg"],
        "metadata": {"transcript": "Hi"},
    }
    for driver, found in (
        ("openai_chat", "Hi"),
        ("gemini", [{"text": "Hi"}]),
        ("claude", [{"type": "text", "text": "Hi"}]),
    ):
        sent = body(driver, [USER, said, USER])
        turn = (sent.get("messages") or sent["contents"])[1]
        assert (turn.get("content") or turn["parts"]) == found
