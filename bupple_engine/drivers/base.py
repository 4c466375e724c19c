"""The chat driver interface, and what every driver inherits from it."""

from __future__ import annotations

import copy
import logging
from abc import ABC
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from asgiref.sync import sync_to_async

from bupple_engine.calls import bridge
from bupple_engine.calls.call import Call, Verb
from bupple_engine.calls.observers import CallFinished, Observer, read_memory, read_observers, registered
from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.streams import AsyncStream, Stream
from bupple_engine.exceptions import (
    InvalidRequestError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from bupple_engine.exchange.flow import Flow
from bupple_engine.masking import Hidden, MaskedDict, Secret
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.protocol import elsewhere
from bupple_engine.protocol.messages import Turn, system_turn, validate
from bupple_engine.protocol.options import COMMON, Option, Options, clocks, merge, protect, suggest
from bupple_engine.protocol.reading import read_option
from bupple_engine.protocol.usage import in_common_terms
from bupple_engine.transports.shells import acarry_out, carry_out
from bupple_engine.types import Chunk, Message, Reply

from .extras import Requirement
from .generated import AGenerated, Generated, flow_of_pieces
from .lazy import is_lazy, plain, plain_message, plain_option
from .probing import Findings, ask_for_models

if TYPE_CHECKING:
    from django.core.checks import CheckMessage


logger = logging.getLogger("bupple_engine")


class ChatDriver(ABC):  # noqa: B024 # of what must be there, any one of several will do
    """One entry of the settings: send(), stream(), their async twins, and get_config().

    A driver of your own has generate() or agenerate(), or send(), stream() and their twins of its own; one
    that has none of these can't be made. `options` names what its entry may hold beside the common keys. One
    instance serves all threads and event loops of a process: keep no state of a call on it.

    What is called, and when:

    * __init__(), once a process and entry, at the first ai() or `manage.py check`, and once more for each
      ai(alias, **options). It sends nothing. An ImproperlyConfigured, or any other error, is a mistake of
      the entry (E012).
    * check(), requirements(), endpoint() and get_config() by `manage.py check` and the admin page, also where
      there is no network. They send nothing, and ask no callable key.
    * generate() or agenerate(), once a send() or stream(), behind all that can be told of a call before any
      I/O. It raises an EngineError for what goes wrong; whatever else it raises reaches the caller as it is.
    * models(), offers() and probe() by the live check and `manage.py bupple_models`. They may send requests,
      and raise an EngineError; what else they raise the live check reports.
    """

    options: ClassVar[Mapping[str, Option]] = COMMON
    required: tuple[str, ...] = ()  # the options that a call can't do without
    # Whether the list of models is refused without a good key, so that having it says something of the key;
    # None where that says nothing.
    models_need_key: bool | None = None
    has_overrides = False  # set: it was made by ai(alias, **options)
    observers: tuple[Observer, ...] = ()  # those of the settings
    opened_by: Callable[[str], ChatDriver] | None = None  # what makes it again from its alias: ai()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if lacking := cls.find_lacking():
            raise TypeError(f"{cls.__name__} {lacking}")
        return super().__new__(cls)

    @classmethod
    def find_lacking(cls) -> str:
        """Return what a class lacks to be a driver, "" where it lacks nothing."""
        ways = ({"generate"}, {"agenerate"}, {"_flow"}, {"send", "stream"})
        own = {name for name in set().union(*ways) if cls._has_own(name)}
        words = "must have generate() or agenerate(), which yields the answer"
        return "" if any(way <= own for way in ways) else words

    def __init__(self, alias: str, name: str, config: Options) -> None:
        self.alias = alias
        self.name = name
        self.config = config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Have pickle write the alias down, which ai() makes a driver of again; the options are secret."""
        if self.has_overrides:
            raise TypeError(
                f"A driver made by ai({self.label!r}, **options) can't be pickled: its options may be secret."
                " Pass on the alias and what the options are made of, and call ai() where it is needed."
            )
        if self.opened_by is None:
            raise TypeError(f"A driver can't be pickled that was made by another than ai({self.label!r}).")
        return self.opened_by, (self.alias,)

    def __copy__(self) -> ChatDriver:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> ChatDriver:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        memo[id(self.observers)] = self.observers
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    @cached_property
    def label(self) -> str:
        """The alias as it may be shown: somebody may have pasted a key for it."""
        return unkeyed(self.alias)

    @cached_property
    def _call_finished(self) -> CallFinished:
        return CallFinished(type(self))

    def generate(self, messages: list[Message], options: Options) -> Iterator[Any]:
        """Yield the answer as dicts: {"content": …} for each piece, {"done": True} at its end.

        The last may have finish_reason (stop where it has none), model, usage and metadata. An answer
        without it counts as cut off. usage has the keys of types.Usage that are known: it is made to add up,
        and what has another name goes under raw.
        messages are checked; options are the entry's and the call's.
        Raise an EngineError for what goes wrong; release what you hold in a `finally`.
        """
        raise TypeError(f"{type(self).__name__} {ChatDriver.find_lacking()}")

    def agenerate(self, messages: list[Message], options: Options) -> AsyncIterator[Any]:
        """See generate(); an asynchronous generator, in place of it.

        It runs in the caller's event loop, in a task of its own, and in send() and stream() in a loop of its
        own. A call that is ended cancels it, so that its `finally` runs.
        """
        raise TypeError(f"{type(self).__name__} {ChatDriver.find_lacking()}")

    def __getattr__(self, name: str) -> Any:
        if verb := elsewhere.VERBS.get(name):
            raise AttributeError(f"A driver has no {name!r}: write ai().{verb}(…)", name=name, obj=self)
        return self.__getattribute__(name)  # which raises what it has raised before

    @property
    def known_options(self) -> Mapping[str, Option]:
        """What an entry of this driver may hold."""
        return self.options

    def replace(self, config: Options) -> Self:
        """Return the same driver with other options: those of ai(alias, **options)."""
        return type(self)(self.alias, self.name, config)

    # The interface

    def send(self, messages: list[Message] | str | None = "", **options: Any) -> Reply:
        """Return the whole answer, or raise an EngineError.

        messages may be a string, which is what the user says. Beside the driver's options a call takes
        `system`, a system message that goes before all others, `context`, which the signal passes on, and
        `observers`, an Observer or several that hear of this call alone, and `memory`, the conversation that
        the messages go on with: they are then what is new, and None asks what the memory says.
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

    def models(self) -> list[str]:
        """Return the names of the models that the provider offers now, in its order; it costs no tokens.

        Raises an EngineError where the provider does not tell them, an UnsupportedFeatureError where it has
        no list.
        """
        raise UnsupportedFeatureError(f"{self.name} has no list of models: its driver has no models().")

    async def amodels(self) -> list[str]:
        """See models()."""
        return await bridge.run(self.models, self._make_call(self.config))

    def offers(self, model: str, models: list[str]) -> bool | None:
        """Return whether a model is among those of models(); None where their list does not say."""
        return model in models

    def get_config(self) -> dict[str, Any]:
        """Return what the driver runs with; headers, extra, credentials and keys in any option are masked."""
        config: dict[str, Any] = {"alias": self.label, "driver": self.name}
        for name in self.known_options:
            config[name] = shown_in_config(self.config.get(name))
        if "timeout" in config:
            config["timeout"] = clocks(self.config)._asdict()
        return config

    def endpoint(self) -> str:
        """Return the URL that calls go to, what is secret in it masked; "" where nobody can tell."""
        return ""

    def requirements(self) -> Sequence[Requirement]:
        """Return the extras that the driver makes use of, or can't do without."""
        return ()

    def probe(self, seconds: float) -> Findings:
        """Return what can be found out of the provider within so many seconds, for no tokens.

        A provider that fails is a finding, no exception.
        """
        return ask_for_models(self, seconds)

    def check(self) -> Iterable[CheckMessage]:
        """Return what is wrong with the entry, as Django's CheckMessages with ids of your own.

        `manage.py check` calls it, also where there is no network: send nothing, and ask no callable key.
        Where a message has no obj, the entry's address is put there.
        """
        return ()

    # What a driver may do in a better way than by generate()

    def _prepare(self, call: RunningCall) -> None:  # noqa: B027 # most have nothing to add
        """Raise what can be told of a call before any I/O."""

    def _flow(self, call: RunningCall) -> Flow:
        """Return what a call does, in both worlds."""
        # The messages are those of the beginning: until then observers may set others.
        source: object
        if self._has_own("agenerate"):
            source = AGenerated(lambda: self.agenerate(call.messages, call.options))
        else:
            source = Generated(lambda: self.generate(call.messages, call.options))
        return flow_of_pieces(self, source, call)

    def _can_await(self, call: RunningCall) -> bool:
        """Tell whether all that the flow opens can be awaited; else an asynchronous call runs in a thread."""
        return self._has_own("agenerate")

    @classmethod
    def _has_own(cls, name: str) -> bool:
        return getattr(cls, name) is not getattr(ChatDriver, name)

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

    def _begin(
        self, messages: list[Message] | str | None, options: dict[str, Any], verb: Verb
    ) -> RunningCall:
        context, system = options.pop("context", None), options.pop("system", None)
        own = read_observers(options.pop("observers", None))
        memory = options.pop("memory", None)
        merged = merge(self.config, parse_options(options, self.known_options)) if options else self.config
        listed, turns = [], []
        if memory is None or messages is not None:
            listed = _listed([messages] if memory is not None and isinstance(messages, Mapping) else messages)
            turns = validate(listed)
        if memory is not None:
            own = (read_memory(memory).recorder(listed), *own)
        if system is not None:
            system = plain(system)
            turns = [system_turn(system), *turns]
            listed = [{"role": "system", "content": system}, *listed]
        observers = (*own, *registered(), *self.observers)
        call = self._make_call(merged, verb, listed, turns, context, observers)
        if turns:
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
        model = unkeyed(options.get("model") or "")
        value = Call(verb, self.label, self.name, model, messages or [], options, context)
        return RunningCall(value, turns or [], self._call_finished, observers, self._build)

    def _build(self, call: RunningCall) -> None:
        """Check the messages that an observer has set, and prepare the call anew."""
        call.value.messages = _listed(call.messages)
        call.turns = validate(call.messages)
        self._prepare(call)

    async def _abegin(self, messages: list[Message] | str | None, options: dict[str, Any]) -> RunningCall:
        """See _begin(); a callable that gives the key, which may wait for a vault, is asked in a thread."""
        key = options.get("api_key") or self.config.get("api_key")
        if not isinstance(key, Secret) or key.is_fixed:
            return self._begin(messages, options, "send")
        return await sync_to_async(self._begin)(messages, options, "send")

    def complete(self, piece: Any, call: RunningCall) -> Chunk:
        """Return what generate() has yielded as a chunk with all its keys."""
        if not isinstance(piece, Mapping):
            raise TypeError(f"{type(self).__name__}.generate() must yield dicts, not {type(piece).__name__}")
        done = bool(piece.get("done"))
        chunk: dict[str, Any] = {"role": "assistant", "content": piece.get("content") or "", "done": done}
        if done:
            chunk["model"] = piece.get("model") or call.options.get("model") or self.name
            usage = piece.get("usage")
            if not isinstance(usage, Mapping | None):
                kind = type(usage).__name__
                raise TypeError(f"{type(self).__name__}.generate() must yield usage as a dict, not {kind}")
            chunk["usage"] = in_common_terms(usage or {})
            chunk["finish_reason"] = piece.get("finish_reason") or "stop"
            chunk["metadata"] = {"driver": self.name, **(piece.get("metadata") or {})}
        elif piece.get("metadata"):
            chunk["metadata"] = piece["metadata"]
        return cast("Chunk", chunk)


def shown_in_config(value: Any) -> Any:
    """Return an option's value as it may be shown: what is wrapped by its repr, or a dict's names alone."""
    if isinstance(value, MaskedDict):
        return {unkeyed(str(name)): "…" for name in value}
    if isinstance(value, Hidden):
        return repr(value)
    if isinstance(value, str):
        return unkeyed(value)
    if isinstance(value, list):
        return [shown_in_config(item) for item in value]
    if isinstance(value, dict):
        return {unkeyed(str(name)): shown_in_config(inner) for name, inner in value.items()}
    return value


def fold(batches: Iterable[list[Chunk]]) -> Reply:
    """Return the chunks of a stream as one Reply."""
    texts: list[str] = []
    reasoning: list[str] = []
    last: Any = None
    for batch in batches:
        for chunk in batch:
            texts.append(chunk["content"])
            if chunk["done"]:
                last = chunk
            elif metadata := chunk.get("metadata"):
                reasoning.append(metadata.get("reasoning") or "")
    if last is None:
        raise StreamInterruptedError("The call was cancelled.")
    metadata = {**last["metadata"], "reasoning": "".join(reasoning)} if any(reasoning) else last["metadata"]
    reply = {name: value for name, value in last.items() if name != "done"}
    return cast("Reply", {**reply, "content": "".join(texts), "metadata": metadata})


def _listed(messages: Any) -> Any:
    """Return what a caller passed as a list of messages, for validate() to look at."""
    if isinstance(messages, list):
        return list(map(plain_message, messages))
    if isinstance(messages, str) or is_lazy(messages):
        text = plain(messages)
        if not text.strip():
            raise InvalidRequestError(
                'messages is blank; say something to the model: ai().send("Hello!")', param="messages"
            )
        return [{"role": "user", "content": text}]
    if isinstance(messages, Iterable) and not isinstance(messages, bytes | bytearray | Mapping):
        return list(map(plain_message, messages))  # a generator is read once
    return messages


def parse_options(
    options: Mapping[str, Any], known: Mapping[str, Option], *, of_entry: bool = False
) -> Options:
    """Return a call's options as clean values, or an entry's; None is an option that is not given."""
    parsed: Options = {}
    for name in options:
        option = known.get(name)
        if option is None or not (option.per_call or of_entry):
            names = [each for each, option in known.items() if option.per_call or of_entry]
            what = (
                f"belongs to the entry in settings, not to a call. ai(…, {name}=…) lays it over."
                if option
                else "is unknown." + _advice(name, names, known)
            )
            raise InvalidRequestError(f"The option {shown(name)} {what}", param=unkeyed(name))
        value = options[name]
        if value is None and name == "api_key":
            # A tenant without a key would be billed to the site.
            raise InvalidRequestError("api_key is None; leave it out to use the entry's", param=name)
        if value is not None:
            parsed[name], wrong = read_option(name, option, plain_option(value))
            if wrong:
                raise InvalidRequestError(f"{name} {wrong}", param=name)
    return parsed


def _advice(name: str, per_call: list[str], known: Mapping[str, Option]) -> str:
    """Return the sentence that follows an unknown option."""
    hint = elsewhere.of_call(name, per_call, known)
    return f" {hint}" if hint else suggest(name.lower(), per_call)
