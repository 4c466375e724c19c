"""How a driver makes a call: from what a caller passes, over its flow in either world, to the Reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any

from asgiref.sync import sync_to_async

from bupple_engine.calls import bridge
from bupple_engine.calls.call import Call, Verb
from bupple_engine.calls.observers import CallFinished, Observer, read_memory, read_observers, registered
from bupple_engine.calls.running import RunningCall
from bupple_engine.exchange.wishes import Flow
from bupple_engine.masking import Secret
from bupple_engine.masking.keys import unkeyed
from bupple_engine.protocol.answer import fold
from bupple_engine.protocol.messages import Turn, system_turn, validate
from bupple_engine.protocol.options import Options, merge
from bupple_engine.transports.shells import acarry_out, carry_out
from bupple_engine.types import Chunk, Message, Reply

from .arguments import listed, parse_options
from .entry import Entry
from .lazy import plain


class Calling(Entry, ABC):
    """Carry out the calls of one entry; the driver supplies the flow, and what is checked before it."""

    @cached_property
    def _call_finished(self) -> CallFinished:
        return CallFinished(type(self))

    # What is known of all calls that have no options of their own

    @cached_property
    def _shown_model(self) -> str:
        return unkeyed(self.config.get("model") or "")

    @cached_property
    def _asks_for_key(self) -> bool:
        key = self.config.get("api_key")
        return isinstance(key, Secret) and not key.is_fixed

    # What a driver supplies

    @abstractmethod
    def _flow(self, call: RunningCall) -> Flow:
        """Return what a call does, in both worlds."""

    @abstractmethod
    def _can_await(self, call: RunningCall) -> bool:
        """Return whether all that the flow opens can be awaited; if not, async calls run in a thread."""

    def _prepare(self, call: RunningCall) -> None:  # most have nothing to add
        """Raise whatever is wrong with a call that can be known before any I/O."""

    # The beginning of a call

    def _begin(
        self, messages: list[Message] | str | None, options: dict[str, Any], verb: Verb
    ) -> RunningCall:
        context = system = memory = None
        observers = (*registered(), *self.observers)
        merged = self.config
        if options:
            context, system = options.pop("context", None), options.pop("system", None)
            observers = (*read_observers(options.pop("observers", None)), *observers)
            memory = options.pop("memory", None)
            merged = merge(merged, parse_options(options, self.known_options)) if options else merged
        sent, turns, is_asked = [], [], memory is None or messages is not None
        if is_asked:
            sent = listed([messages] if memory is not None and isinstance(messages, Mapping) else messages)
            turns = validate(sent)
        if memory is not None:
            observers = (read_memory(memory).recorder(sent), *observers)
        if system is not None:
            system = plain(system)
            turns = [system_turn(system), *turns]
            sent = [{"role": "system", "content": system}, *sent]
        call = self._make_call(merged, verb, sent, turns, context, observers)
        if is_asked:  # else the recorder sets the messages, and the call is prepared then
            self._prepare(call)
        return call

    def _make_call(
        self,
        options: Options,
        verb: Verb = "send",
        messages: list[Message] | None = None,
        turns: list[Turn] | None = None,
        context: Any = None,
        observers: tuple[Observer, ...] = (),
    ) -> RunningCall:
        model = self._shown_model if options is self.config else unkeyed(options.get("model") or "")
        value = Call(verb, self.label, self.name, model, messages or [], options, context)
        return RunningCall(value, options, turns or [], self._call_finished, observers, self._build)

    def _build(self, call: RunningCall) -> None:
        """Check the messages that an observer has set, and prepare the call anew."""
        call.value.messages = listed(call.messages)
        call.turns = validate(call.messages)
        self._prepare(call)

    async def _abegin(self, messages: list[Message] | str | None, options: dict[str, Any]) -> RunningCall:
        """See _begin(); a callable that gives the key, which may wait for a vault, is asked in a thread."""
        key = options.get("api_key")
        if not self._asks_for_key if key is None else not isinstance(key, Secret) or key.is_fixed:
            return self._begin(messages, options, "send")
        return await sync_to_async(self._begin)(messages, options, "send")

    # Its answer

    def _batches(self, call: RunningCall) -> Generator[list[Chunk], None, None]:
        """Yield the chunks in the batches in which they arrive."""
        return carry_out(self._flow(call), call)

    def _abatches(self, call: RunningCall) -> AsyncGenerator[list[Chunk], None]:
        """See _batches()."""
        if self._can_await(call):
            return acarry_out(self._flow(call), call)
        return bridge.iterate(lambda: self._batches(call), call)

    def _reply(self, call: RunningCall) -> Reply:
        """Return the whole answer."""
        return fold(call.watch(self._batches(call)))

    async def _areply(self, call: RunningCall) -> Reply:
        """See _reply()."""
        if not self._can_await(call):
            return await bridge.run(lambda: self._reply(call), call)
        async with aclosing(call.awatch(self._abatches(call))) as batches:
            return fold([batch async for batch in batches])
