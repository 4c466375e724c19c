"""What the admin page shows of each driver: its entry, what the checks say, what the last probe found."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from traceback import format_exception
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.checks import ERROR, CheckMessage, Error, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.timesince import timesince
from django.utils.translation import gettext

from bupple_engine import __version__, conf
from bupple_engine.conf.reading import read
from bupple_engine.conf.registry import get_driver
from bupple_engine.drivers.extras import Requirement
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import one_line

from .probe import Verdict

logger = logging.getLogger("bupple_engine")

VERDICT_SECONDS = 7 * 86_400  # how long the cache keeps a verdict


@dataclass
class Row:
    """One driver as the page shows it; mistake is why its entry can't be made into one."""

    alias: str
    is_default: bool = False
    messages: list[CheckMessage] = field(default_factory=list)
    mistake: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    base_url: str = ""
    extras: Sequence[Requirement] = ()
    verdict: Verdict | None = None

    def read(self) -> None:
        """Fill in what the driver says of itself."""
        try:
            driver = get_driver(self.alias)
            self.config = driver.get_config()
            self.base_url, self.extras = driver.endpoint(), driver.requirements()
        except ImproperlyConfigured as error:
            self.mistake = one_line(_hide(self.alias, str(error)))
        except Exception as error:  # a driver of the site's own may raise anything
            self.mistake = report_crash(self.alias, error)

    @property
    def label(self) -> str:
        """The alias as the page shows it, and as its forms name the row."""
        return one_line(unkeyed(str(self.alias)))

    @property
    def cache_key(self) -> str:
        """Bind the verdict to the entry as it is now: one on another model or key says nothing of it."""
        facts = json.dumps([__version__, self.alias, self.config, self.base_url], default=str)
        return f"bupple_engine.verdict.{hashlib.sha256(facts.encode()).hexdigest()}"

    @property
    def facts(self) -> list[tuple[str, bool | None]]:
        """Return what the probe asked and found; nothing where it could ask nothing."""
        verdict = self.verdict
        if verdict is None or verdict.reachable is None:
            return []
        facts: list[tuple[str, bool | None]] = [(gettext("reachable"), verdict.reachable)]
        if verdict.reachable and (self.config.get("api_key") or verdict.key_accepted is not None):
            facts.append((gettext("key accepted"), verdict.key_accepted))
        if verdict.reachable:
            facts.append((gettext("model known"), verdict.model_known))
        return facts

    @property
    def verdict_says_more(self) -> bool:
        """Whether the verdict has words that are not the mistake's."""
        words = self.verdict and (self.verdict.error or self.verdict.advice)
        return bool(words) and words != self.mistake

    @property
    def age(self) -> str:
        """Say how old the verdict is."""
        if self.verdict is None:
            return ""
        if datetime.now(UTC) - self.verdict.checked_at < timedelta(minutes=1):
            return gettext("just now")
        return gettext("%(age)s ago") % {"age": timesince(self.verdict.checked_at)}

    @property
    def untold_mistake(self) -> str:
        """The mistake, unless the checks have said it."""
        return "" if _told(self.mistake, self.messages) else self.mistake


def _hide(alias: str, words: str) -> str:
    """Return words without the entry's secrets, which a driver of the site's own may quote."""
    entry = next((entry for name, entry in conf.entries() if name == alias), {})
    return read(alias, entry).hide(words) if isinstance(entry, dict) else words


def report_crash(alias: str, error: Exception) -> str:
    """Log what a driver of the site's own raised; return what the page says of it, which quotes nothing."""
    trace = _hide(alias, "".join(format_exception(error)))
    logger.error("The driver %s raises an error\n%s", shown(alias), trace)
    words = gettext("The driver raises %(error)s; the server's log says where.")
    return words % {"error": type(error).__name__}


def read_rows() -> list[Row]:
    """Return a row for each entry of DRIVERS, with the verdict that the cache keeps."""
    rows: dict[Any, Row] = {alias: Row(alias) for alias, _entry in conf.entries()}
    with suppress(ImproperlyConfigured):
        rows[conf.default_alias()].is_default = True
    for row in rows.values():
        row.read()
    kept = {}
    with _cache_may_fail():
        kept = cache.get_many([row.cache_key for row in rows.values()])
    for row in rows.values():
        if row.cache_key in kept:
            row.verdict = Verdict.from_dict(kept[row.cache_key])
    return list(rows.values())


def keep_verdicts(rows: list[Row]) -> None:
    """Have the cache keep the rows' verdicts."""
    kept = {row.cache_key: row.verdict.as_dict() for row in rows if row.verdict}
    with _cache_may_fail():
        cache.set_many(kept, VERDICT_SECONDS)


@contextmanager
def _cache_may_fail() -> Iterator[None]:
    """Log what a cache raises: operators open the page just when something is down."""
    try:
        yield
    except Exception:
        logger.exception("The cache does not keep the verdicts")


def run_checks_on(rows: list[Row]) -> list[CheckMessage]:
    """Give each row what the checks say of it, and return what they say of no single one.

    With DEBUG off, what `check --deploy` says is among it.
    """
    by_alias: dict[Any, Row] = {row.alias: row for row in rows}
    general: list[CheckMessage] = []
    for message in run_checks(tags=["bupple_engine"], include_deployment_checks=not settings.DEBUG):
        if not message.is_silenced():
            row = by_alias.get(getattr(message.obj, "alias", None))
            (row.messages if row else general).append(message)
    try:
        conf.default_alias()
    except ImproperlyConfigured as error:
        if not _told(str(error), general):
            general.append(Error(str(error)))
    return general


def _told(mistake: str, found: list[CheckMessage]) -> bool:
    """Return whether the checks, some of which a site may silence, have said what is wrong."""
    return any(message.level >= ERROR or str(message.msg).lower() in mistake.lower() for message in found)
