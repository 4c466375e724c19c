"""The live check of a driver, which costs no tokens: is it there, does it take the key, has it the model."""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from bupple_engine import conf
from bupple_engine.checks.entries import hide_secrets
from bupple_engine.conf.registry import ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.wired import HTTPDriver
from bupple_engine.exceptions import (
    AuthenticationError,
    EngineError,
    ProviderConnectionError,
    QuotaExceededError,
    ResponseParseError,
    UnsupportedFeatureError,
)
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line
from bupple_engine.protocol.options import merge
from bupple_engine.wires.base import lacks_path

D = TypeVar("D", bound=ChatDriver)

# Beyond the clock, for what no clock ends: the system's name resolution, a vault that is asked for the key.
GRACE_SECONDS = 1.0
MAX_CHARACTERS = 500  # of what a provider says
ABSENT = (404, 405, 501)  # the statuses of a path that is not there
MEND = "Mend settings.BUPPLE_ENGINE."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe found; True is yes, False is no, None could not be told.

    reachable: an answer came from where BASE_URL points. latency: the seconds that it took. error: what went
    wrong, "" where nothing did. advice: what to do, also where all is well but something could not be told.
    """

    alias: str
    driver: str
    ok: bool
    checked_at: datetime
    reachable: bool | None = None
    key_accepted: bool | None = None
    model_known: bool | None = None
    latency: float | None = None
    model: str | None = None
    error: str = ""
    advice: str = ""

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
        found = _ask(driver, seconds)
    except ImproperlyConfigured as error:
        found = {"error": str(error), "advice": MEND}
    except Exception as error:  # of a third party's driver, or of a callable that gives the key
        found = {
            "error": f"{type(error).__name__}: {error}",
            "advice": "The driver's own code failed, or the callable that gives API_KEY.",
        }
    if driver is not None:
        found = {"model": driver.config.get("model"), **found}
    for name in {"error", "advice", "model"} & found.keys():
        if found[name] is not None:  # words of a provider's, or of whoever wrote the driver
            found[name] = one_line(hide_secrets(entry, str(found[name])))[:MAX_CHARACTERS]
    if driver is None:
        return Verdict(_label(alias), "", False, now, **found)
    if found.get("reachable"):
        found.setdefault("latency", time.monotonic() - began)
    return Verdict(driver.label, driver.name, not found.get("error"), now, **found)


def _ask(driver: ChatDriver, seconds: float) -> dict[str, Any]:
    """Return the facts that a driver's list of models tells, or in place of one an empty request."""
    began = time.monotonic()
    try:
        models = _limited(driver, seconds).models()
    except EngineError as error:
        has_list = not isinstance(error, UnsupportedFeatureError) and error.code not in ABSENT
        if has_list or (error.code and not isinstance(driver, HTTPDriver)):
            return _facts_of_error(error)
    else:
        found = {**_facts_of_list(driver, models), "latency": time.monotonic() - began}
        return found if found.get("error") else {**found, **_facts_of_calls(driver, began + seconds)}
    if not isinstance(driver, HTTPDriver):
        return {"advice": f"The driver has no list of models: {_only_a_message(driver.label)}"}
    said = _knock(driver, began + seconds)
    if said is not None and (said.code not in (400, 422) or isinstance(said, AuthenticationError)):
        return _facts_of_error(said)
    advice = f"There is no list of models, only an API for messages; {_only_a_message(driver.label)}"
    return {"reachable": True, "advice": advice}


def _facts_of_calls(driver: ChatDriver, deadline: float) -> dict[str, Any]:
    """Return what speaks against calls though there is a list of models.

    A vendor has both; a server that BASE_URL names may speak another API, or take no key for its list alone.
    """
    if not isinstance(driver, HTTPDriver) or driver.config.get("base_url") is None:
        return {}
    if any(not driver.config.get(name) for name in driver.wire.required):
        return {}  # a model that each call must name, for one
    error = _knock(driver, deadline)
    if error is None or not (lacks_path(error) or isinstance(error, AuthenticationError)):
        return {}
    found = _facts_of_error(error)
    return {**found, "error": f"The list of models is there, but a call fails: {found['error']}"}


def _knock(driver: HTTPDriver, deadline: float) -> EngineError | None:
    """Return what a provider says of an empty request."""
    try:
        _limited(driver, max(deadline - time.monotonic(), 0.1)).knock()
    except EngineError as error:
        return error
    return None


def _limited(driver: D, seconds: float) -> D:
    """Return the driver for one attempt within so many seconds."""
    limits = {"timeout": {"total": seconds}, "max_retries": 0}
    known = {name: value for name, value in limits.items() if name in driver.known_options}
    return cast("D", driver.replace(merge(driver.config, known)))


def _facts_of_list(driver: ChatDriver, models: list[str]) -> dict[str, Any]:
    """Return what a list of models tells."""
    model = driver.config.get("model")
    wire = driver.wire if isinstance(driver, HTTPDriver) else None
    has_key = wire is not None and bool(driver.config.get("api_key"))
    found: dict[str, Any] = {"reachable": True}
    advice = []
    if has_key and wire is not None and wire.models_need_key:
        found["key_accepted"] = True
    elif has_key:
        advice.append(f"Its list of models may be open to anyone; of the key {_only_a_message(driver.label)}")
    if model is not None:
        found["model_known"] = known = driver.offers(model, models)
        if known is False:
            near = difflib.get_close_matches(model, models, n=2)
            found["error"] = f"The provider does not offer the model {model!r}."
            advice.append(
                f"Change MODEL, perhaps to {' or '.join(map(repr, near))}."
                if near
                else f"Change MODEL: `manage.py bupple_models {driver.label}` lists what there is."
            )
        elif known is None:
            advice.append(
                f"{model!r} is not in the list, which may lack some; {_only_a_message(driver.label)}"
            )
    elif wire is not None and "model" in wire.required:
        advice.append("No MODEL is set: add it to the entry, or name one in each call.")
    elif len(models) == 1:
        found |= {"model": models[0], "model_known": True}
    return {**found, "advice": " ".join(advice)}


def _facts_of_error(error: EngineError) -> dict[str, Any]:
    """Return what a failed request tells."""
    found: dict[str, Any] = {"error": error.message or type(error).__name__, "advice": error.advice}
    if error.code:
        found["error"] += f" (status {error.code})"
    # A proxy that wants credentials (407) is no answer of the provider's.
    found["reachable"] = not (isinstance(error, ProviderConnectionError) and error.code in (0, 407))
    if not found["reachable"]:
        found["advice"] = "Check BASE_URL, PROXY and the way from this machine to there."
    elif isinstance(error, AuthenticationError):
        found["key_accepted"] = False
    elif isinstance(error, QuotaExceededError):
        found["key_accepted"] = True
    elif error.code in ABSENT or lacks_path(error):
        found["advice"] = "Check BASE_URL: the API is not there."
        if error.advice != type(error).advice:
            found["advice"] += f" {error.advice}"
    elif isinstance(error, ResponseParseError):
        found["advice"] = "Check BASE_URL: what answers there is not this driver's API."
    elif error.retryable:
        found["advice"] = "The provider may answer later: check again."
    return found


def _overdue(alias: str, seconds: float) -> Verdict:
    """Return the verdict on a driver that no clock ended."""
    return Verdict(
        _label(alias),
        "",
        False,
        datetime.now(UTC),
        error=f"There was no verdict within {seconds:g} s.",
        advice="Name resolution, a callable that gives API_KEY or the driver's own code takes too long.",
    )


def _label(alias: Any) -> Any:
    """Return an alias, which in the settings may be anything, as it may be shown and kept."""
    return unkeyed(alias) if isinstance(alias, str) else alias


def _only_a_message(alias: str) -> str:
    return f"only a message, which costs tokens, could tell more (`manage.py bupple_chat {alias} -m Hi`)."
