"""What a fork, a changed setting and the end of the process cause, each noticed in this one place.

Whoever keeps something for the life of a process (drivers, connections, threads, an engine) registers here
what becomes of it.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from django.core.signals import setting_changed

Work: TypeAlias = Callable[[], None]

_after_fork: list[Work] = []
_after_change: list[Work] = []


def after_fork(work: Work) -> Work:
    """Have work done in the child of a fork, in the order of registration.

    Of the parent's threads only the one that forked lives on there. Another may have held a lock, which
    nobody will ever release: replace locks, and take none.
    """
    _after_fork.append(work)
    return work


def after_change(work: Work) -> Work:
    """Have work done when settings.BUPPLE_ENGINE changes, as it does in tests that override it."""
    _after_change.append(work)
    return work


def at_exit(work: Work) -> Work:
    """Have work done before the interpreter goes away, the latest registered first."""
    return atexit.register(work)


def _do_after_fork() -> None:
    for work in _after_fork:
        work()


def _do_after_change(*, setting: str, **kwargs: Any) -> None:
    if setting == "BUPPLE_ENGINE":
        for work in _after_change:
            work()


setting_changed.connect(_do_after_change)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_do_after_fork)
