"""The live check of a driver, which costs no tokens: is it there, does it take the key, has it the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from bupple_engine import conf
from bupple_engine.conf.reading import read
from bupple_engine.conf.registry import ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.probing import Findings
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import kind_of, one_line

# Beyond the clock, for what no clock ends: the system's name resolution, a vault that is asked for the key.
GRACE_SECONDS = 1.0
MAX_CHARACTERS = 500  # of what a provider says
FIX = "Fix settings.BUPPLE_ENGINE."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Findings):
    """What a probe found, of which driver, and when; ok says that calls can be made."""

    alias: str
    driver: str
    ok: bool
    checked_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's types; from_dict() makes it again."""
        return {**asdict(self), "checked_at": self.checked_at.isoformat()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Return the verdict that as_dict() wrote down."""
        return cls(**{**data, "checked_at": datetime.fromisoformat(data["checked_at"])})


def probe(alias: str, seconds: float = 10.0) -> Verdict:
    """Return what a driver's list of models tells, within so many seconds.

    Where it has none, an empty request that no provider answers tells whether the API is there; what only a
    message could tell, the verdict says. A wrong entry and a provider that fails are verdicts, never
    exceptions.
    """
    return probe_all([alias], seconds)[0]


def probe_all(aliases: Iterable[str] | None = None, seconds: float = 10.0) -> list[Verdict]:
    """Return the verdicts on drivers, without aliases on all that the settings name; all are probed at once.

    See probe().
    """
    names = [alias for alias, _ in conf.entries()] if aliases is None else list(aliases)
    verdicts: dict[str, Verdict] = {}
    threads = [
        # Daemons: one that no clock ends must not hold the process back.
        threading.Thread(
            target=copy_context().run, args=(_work, name, seconds, verdicts), name="probe", daemon=True
        )
        for name in dict.fromkeys(names)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds + GRACE_SECONDS
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return [verdicts.get(name) or _overdue(name, seconds) for name in names]


def _work(alias: str, seconds: float, verdicts: dict[str, Verdict]) -> None:
    try:
        verdicts[alias] = _probe(alias, seconds)
    finally:
        connections.close_all()  # this thread's: a key may come from the database


def _probe(alias: str, seconds: float) -> Verdict:
    began, now = time.monotonic(), datetime.now(UTC)
    driver: ChatDriver | None = None
    entry: dict[str, Any] = {}
    try:
        entry = conf.entry(alias)
        driver = ai(alias)
        found = driver.probe(seconds)
        if not isinstance(found, Findings):
            raise TypeError(f"probe() must return Findings, not {kind_of(found)}")
    except ImproperlyConfigured as error:
        found = Findings(error=str(error), advice=FIX)
    except Exception as error:  # of a third party's driver, or of a callable that gives the key
        found = Findings(
            error=f"{type(error).__name__}: {error}",
            advice="The driver's own code failed, or the callable that gives API_KEY.",
        )
    model = found.model or (driver.config.get("model") if driver is not None else None)
    hide = read(alias, entry).hide
    found = replace(
        found,
        # Words of a provider's, or of whoever wrote the driver.
        error=_cleaned(hide, found.error),
        advice=_cleaned(hide, found.advice),
        model=None if model is None else _cleaned(hide, model),
        latency=time.monotonic() - began if found.reachable and found.latency is None else found.latency,
    )
    label, name = (_label(alias), "") if driver is None else (driver.label, driver.name)
    ok = driver is not None and not found.error
    return Verdict(alias=label, driver=name, ok=ok, checked_at=now, **asdict(found))


def _cleaned(hide: Callable[[str], str], words: object) -> str:
    return one_line(hide(str(words)))[:MAX_CHARACTERS]


def _overdue(alias: str, seconds: float) -> Verdict:
    """Return the verdict on a driver that no clock ended."""
    return Verdict(
        alias=_label(alias),
        driver="",
        ok=False,
        checked_at=datetime.now(UTC),
        error=f"There was no verdict within {seconds:g} s.",
        advice="Name resolution, a callable that gives API_KEY or the driver's own code takes too long.",
    )


def _label(alias: Any) -> Any:
    """Return an alias, which in the settings may be anything, as it may be shown and kept."""
    return unkeyed(alias) if isinstance(alias, str) else alias
