"""The contenders: the least correct code over requests and aiohttp, `bupple_engine`, the openai SDK.

Each has the four verbs. A stream hands every chunk to `sink`; `send` and `asend` return the reply's
text. Nothing is imported before it is needed, so that a process pays for its own contender alone.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import aiohttp
    import openai
    import requests

KEY = "sk-bench-0123456789"
MESSAGES: Any = [
    {"role": "system", "content": "You are a patient assistant. Answer in plain words."},
    {"role": "user", "content": "Why does a stream of words feel faster than a page of them?"},
]
THREADS = 256  # the largest number of threads that share a pool
IDLE = 60  # seconds that a read may take, where it has a limit

Sink = Callable[[Any], object]


class Contender(ABC):
    """Call the loopback provider at `origin`, warm connections kept between the calls."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def url(self, replay: str) -> str:
        """Return the base URL of a replay."""
        return f"{self.origin}/{replay}/v1"

    @abstractmethod
    def stream(self, replay: str, sink: Sink) -> None:
        """Read a stream to its end."""

    @abstractmethod
    async def astream(self, replay: str, sink: Sink) -> None:
        """See stream()."""

    @abstractmethod
    def send(self, replay: str) -> str:
        """Return a reply's text."""

    @abstractmethod
    async def asend(self, replay: str) -> str:
        """See send()."""

    @staticmethod
    def content(chunk: Any) -> str:
        """Return the text of what a sink was given."""
        return str(chunk["content"])

    async def aclose(self) -> None:  # noqa: B027
        """Close what is open on the running event loop."""


class Floor(Contender):
    """Do the least that is correct over requests and aiohttp, in their usual settings."""

    headers: ClassVar = {"Authorization": f"Bearer {KEY}"}
    body: ClassVar = {"model": "bench", "messages": MESSAGES}
    stream_body: ClassVar = {**body, "stream": True, "stream_options": {"include_usage": True}}

    @cached_property
    def session(self) -> requests.Session:
        """Return the session that all threads share."""
        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        return session

    @cached_property
    def asession(self) -> aiohttp.ClientSession:
        """Return the event loop's session."""
        import aiohttp

        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    def stream(self, replay: str, sink: Sink) -> None:
        url = self.url(replay) + "/chat/completions"
        with self.session.post(url, json=self.stream_body, headers=self.headers, stream=True) as response:
            self.read(response, sink)

    async def astream(self, replay: str, sink: Sink) -> None:
        url = self.url(replay) + "/chat/completions"
        async with self.asession.post(url, json=self.stream_body, headers=self.headers) as response:
            await self.aread(response, sink)

    @staticmethod
    def read(response: requests.Response, sink: Sink) -> None:
        """Hand over the chunks of an answer."""
        response.raise_for_status()
        rest = b""
        for piece in response.iter_content(None):
            *events, rest = (rest + piece).split(b"\n\n")
            parse(events, sink)

    @staticmethod
    async def aread(response: aiohttp.ClientResponse, sink: Sink) -> None:
        """See read()."""
        response.raise_for_status()
        rest = b""
        async for piece in response.content.iter_any():
            *events, rest = (rest + piece).split(b"\n\n")
            parse(events, sink)

    def send(self, replay: str) -> str:
        url = self.url(replay) + "/chat/completions"
        response = self.session.post(url, json=self.body, headers=self.headers)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])

    async def asend(self, replay: str) -> str:
        url = self.url(replay) + "/chat/completions"
        async with self.asession.post(url, json=self.body, headers=self.headers) as response:
            response.raise_for_status()
            return str((await response.json())["choices"][0]["message"]["content"])

    async def aclose(self) -> None:
        if "asession" in self.__dict__:
            await self.asession.close()


class TimedFloor(Floor):
    """Do the same with a time limit for each read, as everybody must: a provider may fall silent."""

    def stream(self, replay: str, sink: Sink) -> None:
        url = self.url(replay) + "/chat/completions"
        with self.session.post(
            url, json=self.stream_body, headers=self.headers, stream=True, timeout=(5, IDLE)
        ) as response:
            self.read(response, sink)

    async def astream(self, replay: str, sink: Sink) -> None:
        import aiohttp

        url = self.url(replay) + "/chat/completions"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=IDLE)
        async with self.asession.post(
            url, json=self.stream_body, headers=self.headers, timeout=timeout
        ) as response:
            await self.aread(response, sink)


def parse(events: list[bytes], sink: Sink) -> None:
    """Build a dict of each event that has a choice."""
    for event in events:
        if event == b"data: [DONE]":
            return
        choices = json.loads(event[6:])["choices"]
        if choices:
            content = choices[0]["delta"].get("content", "")
            sink({"role": "assistant", "content": content, "done": False})


class Ours(Contender):
    """Call `bupple_engine`, each replay an entry of its settings."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        import django
        from django.conf import settings

        from benchmarks.provider import REPLAYS

        entry = {"DRIVER": "openai_chat", "API_KEY": KEY, "MODEL": "bench"}
        drivers = {name: {**entry, "BASE_URL": self.url(name)} for name in REPLAYS}
        settings.configure(
            INSTALLED_APPS=["bupple_engine"],
            BUPPLE_ENGINE={"DEFAULT": "short", "DRIVERS": drivers},
        )
        django.setup()
        from bupple_engine import ai

        self.ai = ai

    def stream(self, replay: str, sink: Sink) -> None:
        for chunk in self.ai(replay).stream(MESSAGES):
            sink(chunk)

    async def astream(self, replay: str, sink: Sink) -> None:
        async for chunk in self.ai(replay).astream(MESSAGES):
            sink(chunk)

    def send(self, replay: str) -> str:
        return str(self.ai(replay).send(MESSAGES)["content"])

    async def asend(self, replay: str) -> str:
        return str((await self.ai(replay).asend(MESSAGES))["content"])


class Observed(Ours):
    """The same, heard by an observer that does nothing."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        from bupple_engine import Observer
        from bupple_engine.calls.observers import register

        class Nothing(Observer):
            def end(self, outcome: object) -> None:
                pass

            async def aend(self, outcome: object) -> None:
                pass

        register(Nothing())


class OpenAISDK(Contender):
    """Call the openai SDK, one client a replay, its usual settings."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.clients: dict[str, openai.OpenAI] = {}
        self.aclients: dict[str, openai.AsyncOpenAI] = {}

    def client(self, replay: str) -> openai.OpenAI:
        """Return the client that all threads share."""
        import openai

        if replay not in self.clients:
            self.clients[replay] = openai.OpenAI(api_key=KEY, base_url=self.url(replay))
        return self.clients[replay]

    def aclient(self, replay: str) -> openai.AsyncOpenAI:
        """See client()."""
        import openai

        if replay not in self.aclients:
            self.aclients[replay] = openai.AsyncOpenAI(api_key=KEY, base_url=self.url(replay))
        return self.aclients[replay]

    def stream(self, replay: str, sink: Sink) -> None:
        with self.client(replay).chat.completions.create(
            model="bench",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                if chunk.choices:
                    sink(chunk)

    async def astream(self, replay: str, sink: Sink) -> None:
        async with await self.aclient(replay).chat.completions.create(
            model="bench",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            async for chunk in stream:
                if chunk.choices:
                    sink(chunk)

    def send(self, replay: str) -> str:
        create = self.client(replay).chat.completions.create
        return create(model="bench", messages=MESSAGES).choices[0].message.content or ""

    async def asend(self, replay: str) -> str:
        create = self.aclient(replay).chat.completions.create
        reply = await create(model="bench", messages=MESSAGES)
        return reply.choices[0].message.content or ""

    @staticmethod
    def content(chunk: Any) -> str:
        return chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        for client in self.aclients.values():
            await client.close()


CONTENDERS: dict[str, type[Contender]] = {
    "floor": Floor,
    "timed": TimedFloor,
    "ours": Ours,
    "observed": Observed,
    "openai": OpenAISDK,
}
