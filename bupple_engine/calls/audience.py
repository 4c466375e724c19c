"""Who hears of one call: its observers, told in order, and never to the harm of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeAlias

from bupple_engine.exchange.attempt import Attempt
from bupple_engine.types import Chunk

from . import bridge, threads
from .call import Call, copied
from .observers import CallFinished, Observer, blocking, dismiss, is_cancelled, report_failure
from .outcome import Outcome, comes_from_outside

Batches: TypeAlias = Generator[list[Chunk], None, None]
AsyncBatches: TypeAlias = AsyncGenerator[list[Chunk], None]

_NO_OPENING: AbstractContextManager[Any] = nullcontext()
_tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


class Audience:
    """Tell the observers of a call what happens; finished is the first that begins and the last that ends."""

    __slots__ = (
        "_beginning",
        "_begun",
        "_call",
        "_finished",
        "_heard",
        "_is_awaited",
        "_observers",
        "_unheard",
        "_untold",
    )

    def __init__(self, call: Call, observers: tuple[Observer, ...], finished: CallFinished) -> None:
        self._call = call
        self._observers = observers
        self._finished = finished
        # What any of them hears; mostly there is one.
        self._heard = observers[0].heard if len(observers) == 1 else _heard_by(observers)
        self._begun: list[Observer] = []
        self._beginning: Observer | None = None
        self._is_awaited = False
        self._unheard: list[
            tuple[Observer, Attempt]
        ] = []  # noted on an event loop, where telling might block it
        self._untold: list[Observer] = []  # who is to hear the end, the last of them first

    # The beginning

    def begin(self, take: Callable[[Observer], None]) -> None:
        """Have the observers begin; take is told of each that has set other messages."""
        for observer in self._observers:
            if "begin" in observer.heard:
                before = self._approach(observer)
                try:
                    blocking(observer, "begin")(self._call)
                except StopIteration as error:
                    raise _not_the_end(observer) from error
                self._note_begun(observer, before, take)
            else:
                self._begun.append(observer)

    async def abegin(self, take: Callable[[Observer], None]) -> None:
        """See begin()."""
        self._is_awaited = True
        for observer in self._observers:
            if "begin" in observer.heard:
                before = self._approach(observer)
                try:
                    await observer.abegin(self._call)
                except StopAsyncIteration as error:
                    raise _not_the_end(observer) from error
                self._note_begun(observer, before, take)
            else:
                self._begun.append(observer)

    def _approach(self, observer: Observer) -> list[Any]:
        """Note who begins; return the messages as they are, which it has a copy of, to change as it likes."""
        self._beginning, before = observer, self._call.messages
        self._call.messages = copied(before)
        return before

    def _note_begun(self, observer: Observer, before: list[Any], take: Callable[[Observer], None]) -> None:
        self._beginning = None
        self._begun.append(observer)
        if self._call.messages != before:
            take(observer)

    def refuse(self, error: BaseException) -> None:
        """Note that no other begins: those that had begun hear the end, and nobody else."""
        if comes_from_outside(error) and self._beginning is not None:  # it may have done half of its work
            self._begun.append(self._beginning)
        self._untold = [observer for observer in self._begun if "end" in observer.heard]

    # Meanwhile

    def _hear(self, observer: Observer, name: str, *given: Any) -> None:
        try:
            blocking(observer, name)(*given)
        except BaseException as error:
            dismiss(observer, name, self._call, error)

    async def _ahear(self, observer: Observer, name: str, *given: Any) -> None:
        try:
            await getattr(observer, f"a{name}")(*given)
        except BaseException as error:
            dismiss(observer, name, self._call, error)

    def opening(self) -> AbstractContextManager[Any]:
        """Return what is entered around the opening of a request alone."""
        if "opening" not in self._heard:
            return _NO_OPENING
        return _Opening([observer for observer in self._observers if "opening" in observer.heard], self._call)

    def attempt(self, attempt: Attempt) -> None:
        """Tell an attempt that has ended; on an event loop, tell_attempts() or the end does it."""
        if "attempt" in self._heard:
            self._note(attempt)
            if not (self._is_awaited and _is_on_a_loop()):
                self._tell_attempts()

    def _tell_attempts(self) -> None:
        for observer, attempt in self._take_unheard():
            self._hear(observer, "attempt", self._call, attempt)

    async def atell_attempts(self) -> None:
        """Tell what attempt() was given on an event loop, where telling might have blocked it."""
        for observer, attempt in self._take_unheard():
            await self._ahear(observer, "attempt", self._call, attempt)

    def _take_unheard(self) -> Iterator[tuple[Observer, Attempt]]:
        while self._unheard:
            yield self._unheard.pop(0)

    def _note(self, attempt: Attempt) -> None:
        self._unheard += [(each, attempt) for each in self._observers if "attempt" in each.heard]

    def watch(self, batches: Batches) -> Batches:
        """Return the batches, told to those that hear of batches; the same where nobody does."""
        if "batch" not in self._heard:
            return batches
        return self._watch(batches, [observer for observer in self._observers if "batch" in observer.heard])

    def _watch(self, batches: Batches, observers: list[Observer]) -> Batches:
        try:
            for batch in batches:
                for observer in observers if batch else ():
                    self._hear(observer, "batch", self._call, batch)
                yield batch
        finally:
            batches.close()

    def awatch(self, batches: AsyncBatches) -> AsyncBatches:
        """See watch()."""
        if "batch" not in self._heard:
            return batches
        return self._awatch(batches, [observer for observer in self._observers if "batch" in observer.heard])

    async def _awatch(self, batches: AsyncBatches, observers: list[Observer]) -> AsyncBatches:
        try:
            async for batch in batches:
                for observer in observers if batch else ():
                    await self._ahear(observer, "batch", self._call, batch)
                yield batch
        finally:
            await batches.aclose()

    # The end

    def expect(self, attempts: Callable[[], tuple[Attempt, ...]]) -> None:
        """Note who is to hear the end, and before it of the attempts that nobody was told of."""
        if self._finished.is_heard:
            self._untold.append(self._finished)
        self._untold += [observer for observer in self._begun if "end" in observer.heard]
        if "attempt" in self._heard:
            for attempt in attempts():
                self._note(attempt)

    def tell(self, outcome: Outcome) -> None:
        """Tell the end to those that have not heard it; safe where another thread is at it."""
        try:
            if self._unheard:
                self._tell_attempts()
            while (observer := self._next_untold()) is not None:
                self._hear(observer, "end", outcome)
        except BaseException:
            self.tell(outcome)  # the others
            raise

    def _tell_blocking(self, outcome: Outcome) -> None:
        """Tell the end to those that come before the next which hears it on the event loop."""
        while (observer := self._next_untold(blocking_alone=True)) is not None:
            self._hear(observer, "end", outcome)

    async def atell(self, outcome: Outcome) -> None:
        """See tell()."""
        try:
            await self.atell_attempts()
            while self._untold:
                if "end" not in self._untold[-1].awaited:
                    await bridge.carry_out(lambda: self._tell_blocking(outcome))
                elif (observer := self._next_untold()) is not None:
                    await self._tell_shielded(observer, outcome)
        except BaseException:
            threads.submit(lambda: self.tell(outcome))  # the caller is cancelled, or its loop ends
            raise

    async def _tell_shielded(self, observer: Observer, outcome: Outcome) -> None:
        """Tell the end on the event loop, in a task that is not cancelled with the caller."""

        async def tell() -> None:
            try:
                await observer.aend(outcome)
            except asyncio.CancelledError:
                report_failure(observer, "end", self._call)  # its event loop has ended
                raise
            except BaseException as error:
                dismiss(observer, "end", self._call, error)

        task = asyncio.get_running_loop().create_task(tell())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if is_cancelled() or not task.done():
                raise

    def _next_untold(self, *, blocking_alone: bool = False) -> Observer | None:
        if not self._untold:
            return None
        try:
            if blocking_alone and "end" in self._untold[-1].awaited:
                return None
            return self._untold.pop()  # by one of several threads
        except IndexError:
            return None


def _heard_by(observers: tuple[Observer, ...]) -> frozenset[str]:
    return frozenset().union(*(observer.heard for observer in observers))


def _not_the_end(observer: Observer) -> RuntimeError:
    """Return what is raised for an error that would be taken for the end of a stream."""
    return RuntimeError(f"{type(observer).__qualname__}.begin() raised a StopIteration, as next() does")


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Opening(AbstractContextManager[None]):
    """Enter what observers return from opening(); what they raise is logged, and no error is swallowed."""

    def __init__(self, observers: list[Observer], call: Call) -> None:
        self._observers = observers
        self._call = call
        self._entered: list[tuple[Observer, AbstractContextManager[Any]]] = []

    def __enter__(self) -> None:
        for observer in self._observers:
            try:
                manager = observer.opening(self._call)
                manager.__enter__()
            except BaseException as raised:
                self._dismiss(observer, raised)
            else:
                self._entered.append((observer, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._entered:
            observer, manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, traceback)
            except BaseException as raised:
                if raised is not error:
                    self._dismiss(observer, raised)

    def _dismiss(self, observer: Observer, raised: BaseException) -> None:
        try:
            dismiss(observer, "opening", self._call, raised)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)  # leave the others
            raise
