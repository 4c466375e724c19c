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
from .call import Call
from .observers import CallFinished, Observer, blocking, report_failure
from .outcome import Outcome, interrupts

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
        "_is_awaited",
        "_observers",
        "_unheard",
        "_untold",
    )

    def __init__(self, call: Call, observers: tuple[Observer, ...], finished: CallFinished) -> None:
        self._call = call
        self._observers = observers
        self._finished = finished
        self._begun: list[Observer] = []
        self._beginning: Observer | None = None
        self._is_awaited = False
        self._unheard: list[Attempt] = []  # noted on an event loop, where telling might block it
        self._untold: list[Observer] = []  # who is to hear the end, the last of them first

    # The beginning

    def begin(self, take: Callable[[Observer], None]) -> None:
        """Have the observers begin; take is told of each that has set other messages."""
        for observer in self._observers:
            if "begin" in observer.heard:
                self._beginning, before = observer, [*self._call.messages]
                blocking(observer, "begin")(self._call)
                self._note_begun(observer, before, take)
            else:
                self._begun.append(observer)

    async def abegin(self, take: Callable[[Observer], None]) -> None:
        """See begin()."""
        self._is_awaited = True
        for observer in self._observers:
            if "begin" in observer.heard:
                self._beginning, before = observer, [*self._call.messages]
                await observer.abegin(self._call)
                self._note_begun(observer, before, take)
            else:
                self._begun.append(observer)

    def _note_begun(self, observer: Observer, before: list[Any], take: Callable[[Observer], None]) -> None:
        self._beginning = None
        self._begun.append(observer)
        if self._call.messages != before:
            take(observer)

    def refuse(self, error: BaseException) -> None:
        """Note that no other begins: those that had begun hear the end, and nobody else."""
        if interrupts(error) and self._beginning is not None:  # it may have done half of its work
            self._begun.append(self._beginning)
        self._untold = [observer for observer in self._begun if "end" in observer.heard]

    # Meanwhile

    def opening(self) -> AbstractContextManager[Any]:
        """Return what is entered around the opening of a request alone."""
        found = [observer for observer in self._observers if "opening" in observer.heard]
        return _Opening(found, self._call) if found else _NO_OPENING

    def attempt(self, attempt: Attempt) -> None:
        """Tell an attempt that has ended; on an event loop, tell_attempts() or the end does it."""
        if any("attempt" in observer.heard for observer in self._observers):
            self._unheard.append(attempt)
            if not (self._is_awaited and _is_on_a_loop()):
                self._tell_attempts()

    def _tell_attempts(self) -> None:
        for observer, attempt in self._take_unheard():
            try:
                blocking(observer, "attempt")(self._call, attempt)
            except Exception:
                report_failure(observer, "attempt", self._call)

    async def atell_attempts(self) -> None:
        """Tell what attempt() was given on an event loop, where telling might have blocked it."""
        for observer, attempt in self._take_unheard():
            try:
                await observer.aattempt(self._call, attempt)
            except Exception:
                report_failure(observer, "attempt", self._call)

    def _take_unheard(self) -> Iterator[tuple[Observer, Attempt]]:
        while self._unheard:
            attempt = self._unheard.pop(0)
            for observer in self._observers:
                if "attempt" in observer.heard:
                    yield observer, attempt

    def watch(self, batches: Batches) -> Batches:
        """Return the batches, told to those that hear of batches; the same where nobody does."""
        found = [observer for observer in self._observers if "batch" in observer.heard]
        return self._watch(batches, found) if found else batches

    def _watch(self, batches: Batches, observers: list[Observer]) -> Batches:
        try:
            for batch in batches:
                for observer in observers if batch else ():
                    try:
                        blocking(observer, "batch")(self._call, batch)
                    except Exception:
                        report_failure(observer, "batch", self._call)
                yield batch
        finally:
            batches.close()

    def awatch(self, batches: AsyncBatches) -> AsyncBatches:
        """See watch()."""
        found = [observer for observer in self._observers if "batch" in observer.heard]
        return self._awatch(batches, found) if found else batches

    async def _awatch(self, batches: AsyncBatches, observers: list[Observer]) -> AsyncBatches:
        try:
            async for batch in batches:
                for observer in observers if batch else ():
                    try:
                        await observer.abatch(self._call, batch)
                    except Exception:
                        report_failure(observer, "batch", self._call)
                yield batch
        finally:
            await batches.aclose()

    # The end

    def expect(self, attempts: Callable[[], tuple[Attempt, ...]]) -> None:
        """Note who is to hear the end, and before it of the attempts that nobody was told of."""
        if self._finished.is_heard:
            self._untold.append(self._finished)
        heard = False
        for observer in self._begun:
            if "end" in observer.heard:
                self._untold.append(observer)
            heard = heard or "attempt" in observer.heard
        if heard:
            self._unheard += attempts()

    def tell(self, outcome: Outcome) -> None:
        """Tell the end to those that have not heard it; safe where another thread is at it."""
        if self._unheard:
            self._tell_attempts()
        while (observer := self._next_untold()) is not None:
            self._tell_one(observer, outcome)

    def _tell_blocking(self, outcome: Outcome) -> None:
        """Tell the end to those that come before the next which hears it on the event loop."""
        while (observer := self._next_untold(blocking_alone=True)) is not None:
            self._tell_one(observer, outcome)

    def _tell_one(self, observer: Observer, outcome: Outcome) -> None:
        try:
            blocking(observer, "end")(outcome)
        except Exception:
            report_failure(observer, "end", self._call)

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
            except Exception:
                report_failure(observer, "end", self._call)
            except asyncio.CancelledError:
                report_failure(observer, "end", self._call)  # its event loop has ended
                raise

        task = asyncio.get_running_loop().create_task(tell())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        await asyncio.shield(task)

    def _next_untold(self, *, blocking_alone: bool = False) -> Observer | None:
        if not self._untold:
            return None
        try:
            if blocking_alone and "end" in self._untold[-1].awaited:
                return None
            return self._untold.pop()  # by one of several threads
        except IndexError:
            return None


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
            except Exception:
                report_failure(observer, "opening", self._call)
            else:
                self._entered.append((observer, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._entered:
            observer, manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, traceback)
            except Exception as raised:
                if raised is not error:
                    report_failure(observer, "opening", self._call)
