"""The chat driver interface: what a driver offers, and what one of your own implements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from bupple_engine.calls import bridge
from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.streams import AsyncStream, Stream
from bupple_engine.exceptions import UnsupportedFeatureError
from bupple_engine.exchange.wishes import Flow
from bupple_engine.protocol import elsewhere
from bupple_engine.protocol.options import Options, protect
from bupple_engine.types import Message, Reply

from .calling import Calling
from .extras import Requirement

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from .probing import Findings


class ChatDriver(Calling):
    """One entry of the settings: send(), stream(), their async twins, and get_config().

    A driver of your own has generate() or agenerate(), or its own send(), stream() and their twins; one that
    has none of these can't be created. `options` names what its entry may hold besides the common keys;
    alias, name, config and get_config() are in entry.py. One instance serves all threads and event loops of a
    process: keep no state of a call on it.

    What is called, and when:

    * __init__(), once per process and entry, at the first ai() or `manage.py check`, and again for each
      ai(alias, **options). It sends nothing. Any error that it raises is a mistake of the entry (E012).
    * check(), requirements(), endpoint() and get_config(), by `manage.py check` and the admin page, even
      without a network. They send nothing, and call no callable key.
    * generate() or agenerate(), once per send() or stream(), after everything that can be checked before any
      I/O. It raises an EngineError for what goes wrong; any other error reaches the caller as it is.
    * models(), offers() and probe(), by the live check and `manage.py bupple_models`. They may send requests
      and raise an EngineError; the live check reports any other error.
    """

    required: tuple[str, ...] = ()  # the options that a call can't do without
    # Whether the list of models needs a valid key, so that getting it proves the key; None if it proves
    # nothing.
    models_need_key: bool | None = None

    # A driver of your own has one of these

    def generate(self, messages: list[Message], options: Options) -> Iterator[Mapping[str, object]]:
        """Yield the answer as dicts: {"content": …} for each piece, {"done": True} at its end.

        The last may have finish_reason (stop by default), model, usage and metadata. An answer without it
        counts as cut off. finish_reason may be a provider's own word. usage has the keys of
        types.Usage that are known: it is made to add up, and what has another name goes under raw.
        messages are checked; options are the entry's and the call's.
        Raise an EngineError for what goes wrong; release what you hold in a `finally`.
        """
        raise TypeError(f"{type(self).__name__} {ChatDriver.find_lacking()}")

    def agenerate(self, messages: list[Message], options: Options) -> AsyncIterator[Mapping[str, object]]:
        """See generate(); an asynchronous generator, in place of it.

        It runs in the caller's event loop, in a task of its own, and in send() and stream() in a loop of its
        own. A call that is ended cancels it, so that its `finally` runs.
        """
        raise TypeError(f"{type(self).__name__} {ChatDriver.find_lacking()}")

    # The interface

    def send(self, messages: list[Message] | str | None = "", **options: Any) -> Reply:
        """Return the whole answer, or raise an EngineError.

        messages may be a string, which is what the user says. Besides the driver's options a call takes
        `system`, a system message that goes before all others, `context`, which the signal passes on,
        `observers`, one Observer or several, of this call only, and `memory`, the conversation that the
        messages go on with: they are then what is new, and None asks what the memory says.
        """
        options = protect(options)
        call = self._begin(messages, options, "send")
        bridge.warn_of_blocking(
            "send() holds up the event loop that it is called in: write `await ai().asend(…)`."
        )
        call.begin()
        try:
            call.last = reply = self._reply(call)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return reply

    def stream(self, messages: list[Message] | str | None = "", **options: Any) -> Stream:
        """Return an iterator over the chunks of the answer; bad messages and options raise here."""
        options = protect(options)
        call = self._begin(messages, options, "stream")
        return Stream(call, call.watch(self._batches(call)))

    async def asend(self, messages: list[Message] | str | None = "", **options: Any) -> Reply:
        """See send()."""
        options = protect(options)
        call = await self._abegin(messages, options)
        await call.abegin()
        try:
            call.last = reply = await self._areply(call)
        except BaseException as error:
            await call.afinish(error)
            raise
        await call.afinish()
        return reply

    def astream(self, messages: list[Message] | str | None = "", **options: Any) -> AsyncStream:
        """See stream()."""
        options = protect(options)
        call = self._begin(messages, options, "stream")
        return AsyncStream(call, call.awatch(self._abatches(call)))

    # What the entry and the provider are asked

    def models(self) -> list[str]:
        """Return the names of the models that the provider offers now, in its order; it costs no tokens.

        Raises an EngineError if the provider does not list them, an UnsupportedFeatureError if it has no
        list.
        """
        raise UnsupportedFeatureError(f"{self.name} has no list of models: its driver has no models().")

    async def amodels(self) -> list[str]:
        """See models()."""
        return await bridge.run(self.models, self._make_call(self.config))

    def offers(self, model: str, models: list[str]) -> bool | None:
        """Return whether a model is among those of models(); None if the list does not say."""
        return model in models

    def endpoint(self) -> str:
        """Return the URL that calls go to, with its secrets masked; "" if it is not known."""
        return ""

    def requirements(self) -> Sequence[Requirement]:
        """Return the extras that the driver uses or needs."""
        return ()

    def probe(self, seconds: float) -> Findings:
        """Return what can be found out about the provider within so many seconds, without spending tokens.

        A provider that fails is a finding, not an exception.
        """
        from .probing import ask_for_models  # a site that never probes has none of it

        return ask_for_models(self, seconds)

    def check(self) -> Iterable[CheckMessage]:
        """Return what is wrong with the entry, as Django's CheckMessages with ids of your own.

        `manage.py check` calls it, even without a network: send nothing, and call no callable key. A message
        without obj gets the entry's address.
        """
        return ()

    # What makes generate() or agenerate() a driver

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if lacking := cls.find_lacking():
            raise TypeError(f"{cls.__name__} {lacking}")
        return super().__new__(cls)

    @classmethod
    def find_lacking(cls) -> str:
        """Return what a class lacks to be a driver; "" if nothing."""
        ways = ({"generate"}, {"agenerate"}, {"_flow"}, {"send", "stream"})
        own = {name for name in set().union(*ways) if cls._has_own(name)}
        words = "must have generate() or agenerate(), which yields the answer"
        return "" if any(way <= own for way in ways) else words

    def _flow(self, call: RunningCall) -> Flow:
        """Return what a call does, in both worlds."""
        from .generated import AGenerated, Generated, flow_of_pieces  # most sites have no such driver
        from .pieces import apieces_of, pieces_of

        # The messages are those of the beginning: until then observers may set others.
        if self._has_own("agenerate"):
            where = f"{type(self).__name__}.agenerate()"
            source: object = AGenerated(
                lambda: apieces_of(self.agenerate(call.messages, call.options), where)
            )
        else:
            where = f"{type(self).__name__}.generate()"
            source = Generated(lambda: pieces_of(self.generate(call.messages, call.options), where))
        return flow_of_pieces(self, source, where, call)

    def _can_await(self, call: RunningCall) -> bool:
        """Return whether all that the flow opens can be awaited; if not, async calls run in a thread."""
        return self._has_own("agenerate")

    @classmethod
    def _has_own(cls, name: str) -> bool:
        return getattr(cls, name) is not getattr(ChatDriver, name)

    def __getattr__(self, name: str) -> Any:
        if verb := elsewhere.VERBS.get(name):
            raise AttributeError(f"A driver has no {name!r}: write ai().{verb}(…)", name=name, obj=self)
        return self.__getattribute__(name)  # which raises what it has raised before
