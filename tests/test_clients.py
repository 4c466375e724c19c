"""Clients that others wrote, against the API on real servers: the openai package, and npm's `ai`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from itertools import accumulate
from shutil import copy
from typing import Any

import pytest

from tests.gates import Gated, cut, endless, pausing, stream
from tests.node import Node, missing
from tests.provider import Answer, Provider
from tests.servers import KINDS, ROOT, SECONDS, Server
from tests.wires import EVENTS, JSON, KEY, RETRY_AFTER, USAGE, ChatCompletions, Kind
from tests.worlds import until

# openai looks into httpx, where that is imported, when the collector ends one of its streams: never halfway
# through the import, please.
with suppress(ImportError):
    import httpx  # noqa: F401

pytestmark = pytest.mark.servers

WIRE = ChatCompletions()
TOKEN = "0123456789abcdef0123456789abcdef01234567"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
SET_UP = f"""
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from rest_framework.authtoken.models import Token
call_command("migrate", fake_initial=True, verbosity=0)  # the server has its sessions
Token.objects.create(user=User.objects.create_user("ada"), key="{TOKEN}")
"""


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    """Give the provider, which has been asked nothing yet."""
    shared_provider.forget()
    return shared_provider


@pytest.fixture(scope="module")
def launch(
    shared_provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Server]]:
    """Give a function that starts the site with tokens on a server, once in the module."""
    with ExitStack() as ended:
        prepared: list[Server] = []

        @cache
        def launch(name: str) -> Server:
            server = Server(KINDS[name], tmp_path_factory.mktemp("site"), shared_provider.url + "/v1")
            server.environment["DJANGO_SETTINGS_MODULE"] = "tests.site.with_tokens"
            if prepared:
                copy(prepared[0].database, server.database)
            else:
                subprocess.run([sys.executable, "-c", SET_UP], cwd=ROOT, env=server.environment, check=True)
                prepared.append(server)
            server.start()
            ended.callback(server.stop)
            return server

        yield launch


@pytest.fixture(params=["uvicorn", "gunicorn-gthread"])
def server(request: pytest.FixtureRequest, launch: Callable[[str], Server]) -> Iterator[Server]:
    """Give the site on a server of each world."""
    if why := KINDS[request.param].missing:
        pytest.skip(why)
    server = launch(request.param)
    yield server
    assert "Traceback" not in server.written(), server.written()


@pytest.fixture(scope="module")
def openai_client() -> Iterator[Any]:
    """Give the client of the openai package, which repeats no call unless it is told to."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url="http://127.0.0.1:9", api_key=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture
def client(openai_client: Any, server: Server) -> Any:
    """Give the client for the server."""
    return openai_client.with_options(base_url=address(server, "/ai/v1"))


def address(server: Server, path: str) -> str:
    """Return the URL of a path."""
    return f"http://127.0.0.1:{server.port}{path}"


def error_of(kind: Kind) -> Answer:
    """Answer with an error of the provider's."""
    status, headers, body = WIRE.error(kind)
    return Answer(status, headers, body)


# The openai package


def check_counts(usage: Any) -> None:
    """Hold what the client read against what the provider said."""
    assert {name: getattr(usage, name) for name in USAGE} == USAGE
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.reasoning_tokens == 3


def test_a_chat(client: Any, provider: Provider) -> None:
    provider.answer(Answer(headers=JSON, body=WIRE.reply("Hello to you")))
    completion = client.chat.completions.create(
        model="chat",
        messages=[*HELLO, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Well"}],
        temperature=0.5,
        max_completion_tokens=50,
        user="ignored",
    )
    assert completion.object == "chat.completion"
    assert completion.model == "chat"
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello to you")
    assert choice.message.refusal is None
    assert choice.finish_reason == "stop"
    check_counts(completion.usage)
    (request,) = provider.requests
    assert WIRE.prompt(request) == [("user", "Hello"), ("assistant", "Yes?"), ("user", "Well")]
    assert WIRE.options(request) == {"temperature": 0.5, "max_tokens": 50}
    assert WIRE.key(request) == KEY  # the site's own, not the client's


def test_a_stream_comes_as_it_is_said(client: Any, provider: Provider) -> None:
    gated = Gated("one ", "two ", "three")
    provider.answer(gated.answer)
    chunks = []
    with client.chat.completions.create(
        model="chat/gpt-6-luna", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content:
                gated.next()
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "chat/gpt-6-luna")
    }
    *content, last = chunks
    assert content[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == "one two three"
    assert [chunk.choices[0].finish_reason for chunk in content] == [None] * (len(content) - 1) + ["stop"]
    assert {chunk.usage for chunk in content} == {None}
    assert last.choices == []
    check_counts(last.usage)
    assert WIRE.model_asked(provider.requests[0]) == "gpt-6-luna"


async def test_the_asynchronous_client(client: Any, provider: Provider) -> None:
    openai = pytest.importorskip("openai")
    provider.answer(stream("one ", "two", finish="length"))
    async with openai.AsyncOpenAI(base_url=client.base_url, api_key=TOKEN, max_retries=0) as asynchronous:
        answer = await asynchronous.chat.completions.create(model="chat", messages=HELLO, stream=True)
        choices = [chunk.choices[0] async for chunk in answer]
    assert "".join(choice.delta.content or "" for choice in choices) == "one two"
    assert choices[-1].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "name", "code"),
    [
        ("auth", 502, "InternalServerError", "AuthenticationError"),
        ("quota", 503, "InternalServerError", "QuotaExceededError"),
        ("rate_limit", 429, "RateLimitError", "provider_rate_limit_exceeded"),
        ("overloaded", 503, "InternalServerError", "OverloadedError"),
        ("context", 400, "BadRequestError", "context_length_exceeded"),
        ("content_filter", 422, "UnprocessableEntityError", "content_filter"),
    ],
)
def test_an_error_of_the_provider(
    kind: Kind, status: int, name: str, code: str, stream: bool, client: Any, provider: Provider
) -> None:
    provider.answer(error_of(kind))
    with pytest.raises(Exception, match=f"Error code: {status}") as raised:
        client.chat.completions.create(model="chat", messages=HELLO, stream=stream)
    error: Any = raised.value
    assert type(error).__name__ == name
    assert (error.status_code, error.code) == (status, code)
    assert KEY not in str(error)
    if kind == "rate_limit":
        assert error.response.headers["retry-after"] == str(RETRY_AFTER)


def test_what_is_worth_a_retry_is_retried(client: Any, provider: Provider) -> None:
    provider.answer(error_of("server"), Answer(headers=JSON, body=WIRE.reply("At last")))
    retrying = client.with_options(max_retries=1)
    completion = retrying.chat.completions.create(model="chat", messages=HELLO)
    assert completion.choices[0].message.content == "At last"
    assert len(provider.requests) == 2


def test_what_is_not_worth_a_retry_is_not(client: Any, provider: Provider) -> None:
    """The client would repeat any 502 or 503 else."""
    provider.answer(error_of("auth"), error_of("quota"))
    for _ in range(2):
        with pytest.raises(Exception, match="Error code: 50"):
            client.with_options(max_retries=2).chat.completions.create(model="chat", messages=HELLO)
    assert len(provider.requests) == 2


def test_a_cut_stream_raises(client: Any, provider: Provider) -> None:
    provider.answer(cut("one ", "two"))
    with client.chat.completions.create(model="chat", messages=HELLO, stream=True) as stream:
        assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "one ", "two"]
        with pytest.raises(Exception, match=r"The answer was cut off before its end\.") as raised:
            next(stream)
    assert type(raised.value).__name__ == "APIError"


def test_a_client_that_leaves_ends_the_call(client: Any, provider: Provider, server: Server) -> None:
    server.state(HEARTBEAT_SECONDS=0.1)  # under WSGI a server learns of it by writing
    provider.answer(endless("one "))
    with client.chat.completions.create(model="chat", messages=HELLO, stream=True) as stream:
        assert any(chunk.choices[0].delta.content for chunk in stream)
    provider.wait_closed(provider.requests[0].connection, SECONDS)
    until(lambda: server.state()["streams"] == 0, SECONDS)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"seed": 1}, "seed"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": [{"role": "system", "content": "Obey"}, *HELLO]}, 'messages[0]["role"]'),
        ({"messages": []}, "messages"),
    ],
)
def test_what_may_not_be_asked_is_refused_by_name(
    fields: dict[str, Any], param: str, client: Any, provider: Provider
) -> None:
    with pytest.raises(Exception, match="Error code: 400") as raised:
        client.chat.completions.create(**{"model": "chat", "messages": HELLO, **fields})
    error: Any = raised.value
    assert type(error).__name__ == "BadRequestError"
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert provider.requests == []


@pytest.mark.parametrize("model", ["private", "chat/another"])
def test_a_model_that_is_not_listed_is_not_found(model: str, client: Any, provider: Provider) -> None:
    with pytest.raises(Exception, match="Error code: 404") as raised:
        client.chat.completions.create(model=model, messages=HELLO)
    error: Any = raised.value
    assert (type(error).__name__, error.code, error.param) == ("NotFoundError", "model_not_found", "model")
    assert provider.requests == []


def test_a_client_of_another_api_is_told_which_there_is(client: Any) -> None:
    with pytest.raises(Exception, match=r"Error code: 404.*chat\.completions\.create") as raised:
        client.responses.create(model="chat", input="Hello")
    assert type(raised.value).__name__ == "NotFoundError"


def test_heartbeats_are_nothing_to_the_client(client: Any, provider: Provider, server: Server) -> None:
    server.state(GATE_SECONDS=0.02, HEARTBEAT_SECONDS=0.02)
    provider.answer(pausing("one ", "two"))
    with client.chat.completions.create(model="chat", messages=HELLO, stream=True) as answer:
        chunks = list(answer)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two"


@pytest.mark.parametrize("key", ["x" * 40, TOKEN[:-1]])
def test_a_wrong_token_is_refused(key: str, client: Any, provider: Provider) -> None:
    with pytest.raises(Exception, match="Error code: 401") as raised:
        client.with_options(api_key=key).chat.completions.create(model="chat", messages=HELLO)
    assert type(raised.value).__name__ == "AuthenticationError"
    assert provider.requests == []


def test_the_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["chat", "chat/gpt-6-luna"]
    for name in ("chat", "chat/gpt-6-luna"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(Exception, match="Error code: 404") as raised:
        client.models.retrieve("private")
    assert type(raised.value).__name__ == "NotFoundError"


# LangChain, which speaks as that package does


def test_a_chat_of_langchain(server: Server, provider: Provider) -> None:
    langchain = pytest.importorskip("langchain_openai")
    exceptions = pytest.importorskip("langchain_core.exceptions")
    chat = langchain.ChatOpenAI(
        model="chat", base_url=address(server, "/ai/v1"), api_key=TOKEN, max_retries=0, temperature=0.5
    )
    within = WIRE.stream_without_end(["one"]) + b"data: " + WIRE.error("context")[2] + b"\n\n"
    overflow = [error_of("context"), error_of("context"), Answer(headers=EVENTS, body=within)]
    provider.answer(stream("one ", "two"), *overflow)
    *_, whole = accumulate(chat.stream("Count", stream_usage=True))
    assert whole.content == "one two"
    assert (whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]) == (12, 7)
    assert whole.usage_metadata["input_token_details"]["cache_read"] == 4
    assert whole.usage_metadata["output_token_details"]["reasoning"] == 3
    with pytest.raises(exceptions.ContextOverflowError):
        chat.invoke("A long story")
    for _ in range(2):  # before the first words and behind them
        with pytest.raises(exceptions.ContextOverflowError):
            list(chat.stream("A long story"))


# httpx-sse, which knows nothing of us


def test_no_heartbeat_is_an_event(server: Server, provider: Provider) -> None:
    httpx, httpx_sse = pytest.importorskip("httpx"), pytest.importorskip("httpx_sse")
    server.state(GATE_SECONDS=0.02, HEARTBEAT_SECONDS=0.02)
    provider.answer(pausing("one ", "two"))
    url, headers = address(server, "/ai/chat/stream/"), {"Authorization": f"Bearer {TOKEN}"}
    with (
        httpx.Client(headers=headers, timeout=SECONDS) as client,
        httpx_sse.connect_sse(client, "POST", url, json={"messages": HELLO}) as source,
    ):
        events = list(source.iter_sse())
    assert [(event.event, event.id) for event in events] == [
        ("message", str(n + 1)) for n in range(len(events))
    ]
    assert "".join(event.json()["content"] for event in events) == "one two"
    assert events[-1].json()["done"] is True


# The chat class of the npm package `ai`


@pytest.fixture(scope="module")
def node() -> Iterator[Callable[[str], Node]]:
    """Give a function that starts node with the chat class of a major, once in the module."""
    with ExitStack() as ended:
        yield cache(lambda package: ended.enter_context(Node("chat.mjs", package)))


class Chat:
    """A conversation in the browser's half of an application, which node has here."""

    def __init__(self, node: Node, server: Server) -> None:
        self.node, self.api = node, address(server, "/ai/ui/chat/")
        self.begin()

    def begin(self, options: str = "{}", token: str = TOKEN) -> None:
        """Begin anew, with options of the transport as JavaScript."""
        headers = {"Authorization": f"Bearer {token}"}
        self.node.run(f"begin({{api, headers, ...{options}}})", api=self.api, headers=headers)

    def send(self, text: str) -> None:
        """Ask something, and wait for the end of the answer."""
        self.node.run("await chat.sendMessage({text})", text=text)

    def send_soon(self, text: str) -> None:
        """Ask something."""
        self.node.run("chat.sendMessage({text})", text=text)

    def wait_for(self, text: str) -> None:
        """Wait until the answer begins so."""
        self.node.run("await until(() => chat.text === text)", text=text)

    def get(self, what: str) -> Any:
        """Return something of the chat's state."""
        return self.node.run(f"return chat.{what}")

    @property
    def end(self) -> Any:
        """Return what is told at an answer's end: how it ended, and whether well."""
        return self.node.run("return chat.ends.at(-1)")


@pytest.fixture(params=["ai", "ai-before"])
def chat(request: pytest.FixtureRequest, node: Callable[[str], Node], server: Server) -> Chat:
    """Give a new conversation, with each major."""
    if why := missing(request.param):
        pytest.skip(why)
    return Chat(node(request.param), server)


ENDED = {"isAbort": False, "isDisconnect": False, "isError": False}


def test_a_ui_chat(chat: Chat, provider: Provider) -> None:
    provider.answer(stream("one ", "two", reasoning=["Let me ", "see"]), stream("three"))
    chat.send("Count")
    assert chat.get("statuses") == ["submitted", "streaming", "ready"]
    answer = chat.get("answer")
    assert answer["role"] == "assistant"
    parts = [(part["type"], part.get("text"), part.get("state")) for part in answer["parts"]]
    assert parts == [
        ("step-start", None, None),
        ("reasoning", "Let me see", "done"),
        ("text", "one two", "done"),
    ]
    assert chat.end == {**ENDED, "finishReason": "stop"}
    assert answer["metadata"]["usage"] == {
        "inputTokens": 12,
        "inputTokenDetails": {"noCacheTokens": 8, "cacheReadTokens": 4, "cacheWriteTokens": 0},
        "outputTokens": 7,
        "outputTokenDetails": {"textTokens": 4, "reasoningTokens": 3},
        "totalTokens": 19,
    }
    chat.send("Go on")
    assert chat.get("text") == "three"
    asked = [("user", "Count"), ("assistant", "one two"), ("user", "Go on")]
    assert WIRE.prompt(provider.requests[1]) == asked


def test_a_ui_chat_comes_as_it_is_said(chat: Chat, provider: Provider) -> None:
    gated = Gated("one ", "two ", "three")
    provider.answer(gated.answer)
    chat.send_soon("Count")
    for text in ("one ", "one two ", "one two three"):
        chat.wait_for(text)
        assert chat.get("status") == "streaming"
        gated.next()
    chat.node.run("await until(() => chat.status === 'ready')")


@pytest.mark.parametrize(
    ("finish", "told"), [("length", "length"), ("content_filter", "content-filter"), ("unknown", "other")]
)
def test_how_a_ui_chat_ended(finish: str, told: str, chat: Chat, provider: Provider) -> None:
    provider.answer(stream("one", finish=finish))
    chat.send("Count")
    assert chat.end == {**ENDED, "finishReason": told}


def test_a_ui_chat_that_sends_the_last_message_alone(chat: Chat, provider: Provider) -> None:
    chat.begin("{prepareSendMessagesRequest: ({id, messages}) => ({body: {id, message: messages.at(-1)}})}")
    provider.answer(stream("one"), stream("two"))
    chat.send("Count")
    chat.send("Go on")
    assert chat.get("text") == "two"
    assert WIRE.prompt(provider.requests[1]) == [("user", "Go on")]


def test_an_error_before_the_ui_chat_begins(chat: Chat, provider: Provider) -> None:
    provider.answer(error_of("auth"))
    chat.send("Hello")
    assert chat.get("statuses") == ["submitted", "error"]
    assert chat.get("messages.length") == 1
    error = json.loads(chat.get("error.message"))["error"]
    assert error["type"] == "AuthenticationError"
    assert error["message"] == "The AI provider refused this site's credentials."
    chat.begin(token="x" * 40)
    chat.send("Hello")
    assert json.loads(chat.get("error.message"))["error"]["type"] == "AuthenticationFailed"
    assert len(provider.requests) == 1


def test_a_cut_ui_chat_is_an_error_and_keeps_its_text(chat: Chat, provider: Provider) -> None:
    provider.answer(cut("one ", "two"))
    chat.send("Count")
    assert chat.get("status") == "error"
    assert chat.get("error.message").startswith("The answer was cut off before its end.")
    assert chat.get("text") == "one two"
    assert chat.end["isError"] is True


def test_a_ui_chat_that_resumes_finds_nothing_to_resume(chat: Chat) -> None:
    """As useChat({resume: true}) does whenever its page is loaded."""
    chat.node.run("await chat.resumeStream()")
    assert chat.get("status") == "ready"
    assert chat.get("error === undefined") is True
    assert chat.get("messages.length") == 0


def test_a_body_that_node_writes_in_pieces(chat: Chat, provider: Provider, server: Server) -> None:
    """Without a length, which write() does not know."""
    provider.answer(Answer(headers=JSON, body=WIRE.reply("Hello to you")))
    post = """
        const { request } = await import("node:http");
        const type = {"Content-Type": "application/json"};
        const asked = request(url, {method: "POST", headers: {...headers, ...type}});
        asked.write(body.slice(0, 20));
        asked.end(body.slice(20));
        const [answer] = await (await import("node:events")).once(asked, "response");
        let text = "";
        for await (const piece of answer) text += piece;
        return [answer.statusCode, JSON.parse(text)];
    """
    status, answer = chat.node.run(
        post,
        url=address(server, "/ai/chat/"),
        headers={"Authorization": f"Bearer {TOKEN}"},
        body=json.dumps({"messages": HELLO}),
    )
    assert (status, answer.get("content")) == (200, "Hello to you")


def test_the_stop_of_a_ui_chat_ends_the_call(chat: Chat, provider: Provider, server: Server) -> None:
    server.state(HEARTBEAT_SECONDS=0.1)  # under WSGI a server learns of it by writing
    provider.answer(endless("one "))
    chat.send_soon("Count")
    chat.wait_for("one ")
    chat.node.run("await chat.stop()")
    provider.wait_closed(provider.requests[0].connection, SECONDS)
    assert chat.node.run("await until(() => chat.ends.length); return chat.status") == "ready"
    assert chat.get("text") == "one "
    assert chat.end["isAbort"] is True
    until(lambda: server.state()["streams"] == 0, SECONDS)
