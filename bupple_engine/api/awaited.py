"""A view that Django awaits in an event loop, and calls where there is none."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any, Protocol

from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from django.http import HttpResponse, HttpResponseBase

from bupple_engine.calls import bridge
from bupple_engine.http.release import end_thread, release_connections

from .asked import ChatCall
from .slots import Place


class Awaited(Protocol):
    """A view that has been asked, and whose answer is awaited."""

    async def afinish(self, pending: Pending) -> HttpResponseBase: ...


class Pending(HttpResponse):
    """Stand for a response that is still to be awaited, until DRF's part is over.

    answer awaits it, once all that may block is done; None where PREPARE is to be awaited before.
    """

    def __init__(self, view: Awaited, call: ChatCall) -> None:
        super().__init__()
        self.view, self.call = view, call
        self.place: Place | None = None
        self.answer: Callable[[], Awaitable[HttpResponseBase]] | None = None

    def abandon(self) -> None:
        """Free the place of a client that has left."""
        if self.place is not None:
            self.place.abandon()


@markcoroutinefunction
def _MARKED() -> None:
    pass


class EitherWay:
    """Be both kinds of view.

    Under WSGI a coroutine function has a loop and a thread made for each request, which cost as much as all
    the rest of it. Django asks for the mark of coroutine functions when the request is there; so it is found
    in a loop alone. Whoever has asked before, as a decorator does, has a call that waits in a thread.
    """

    def __init__(self, begin: Callable[..., HttpResponseBase]) -> None:
        update_wrapper(self, begin)
        self._begin = begin

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_is_coroutine") and bridge.is_on_a_loop():
            return getattr(_MARKED, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if bridge.is_on_a_loop():
            return self._await(request, *args, **kwargs)
        response = self._begin(request, *args, **kwargs)
        if isinstance(response, Pending):
            return async_to_sync(response.view.afinish)(response)
        return response

    async def _await(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = await in_thread(lambda: self._begin(request, *args, **kwargs))
        return await response.view.afinish(response) if isinstance(response, Pending) else response


async def in_thread(work: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Return what work returns in the request's thread, which ends with it where the rest is awaited.

    It is one visit for all that may block: the change of threads costs more than most of what is done there.
    """
    lock = threading.Lock()
    done: list[Pending] = []
    left = released = False

    def do() -> HttpResponseBase:
        nonlocal released
        response = work()
        if isinstance(response, Pending):
            released = release_connections()
            with lock:
                done.append(response)
                gone = left
            if gone:
                response.abandon()
        return response

    try:
        response = await sync_to_async(do)()
    except BaseException:
        with lock:
            left, begun = True, [*done]
        for pending in begun:
            pending.abandon()
        raise
    if released:
        end_thread()
    return response
