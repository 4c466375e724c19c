"""Give back what a request need not hold while its answer is awaited and streamed."""

from __future__ import annotations

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections


def release_connections() -> bool:
    """Close this thread's database connections but those in a transaction; tell whether that was all.

    A stream lives for minutes.
    """
    kept = False
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            kept = True
        else:
            connection.close()
    return not kept


async def arelease_connections() -> None:
    """Close the connections of the request's own thread, and end the thread.

    An ASGI request whose middleware has run in a thread keeps it until its response has been sent: 500 open
    streams would be 500 idle threads. What needs one later is given a new one. A thread that is within a
    transaction stays: it closes its connection the next time.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None:  # no ASGI request, such as a test client's: the thread is shared
        await sync_to_async(release_connections)()
    elif context in SyncToAsync.context_to_thread_executor and await sync_to_async(release_connections)():
        end_thread()


def end_thread() -> None:
    """End the request's own thread, once nothing of its connections is needed any more."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = None if context is None else SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.shutdown(wait=False)
