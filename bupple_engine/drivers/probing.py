"""What a driver finds out about its provider when it is probed; nothing here costs tokens."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from bupple_engine.exceptions import (
    AuthenticationError,
    EngineError,
    ProviderConnectionError,
    QuotaExceededError,
    ResponseParseError,
    UnsupportedFeatureError,
)
from bupple_engine.protocol.options import Option, Options, merge
from bupple_engine.wires.base import lacks_path

ABSENT = (404, 405, 501)  # the statuses of a path that is not there


@dataclass(frozen=True, slots=True)
class Findings:
    """What a probe found; True is yes, False is no, None could not be told.

    reachable: an answer came from where calls go. latency: the seconds that it took. model: the one that
    answers, where only the provider names it. error: what went wrong, "" where nothing did. advice: what to
    do, also where all is well but something could not be told.
    """

    reachable: bool | None = None
    key_accepted: bool | None = None
    model_known: bool | None = None
    latency: float | None = None
    model: str | None = None
    error: str = ""
    advice: str = ""


class Listed(Protocol):
    """What is asked of a driver whose list of models tells something."""

    config: Options
    required: tuple[str, ...]
    models_need_key: bool | None

    @property
    def label(self) -> str: ...
    @property
    def known_options(self) -> Mapping[str, Option]: ...
    def models(self) -> list[str]: ...
    def offers(self, model: str, models: list[str]) -> bool | None: ...
    def replace(self, config: Options) -> Self: ...


class Knockable(Listed, Protocol):
    """The same, and an empty request that no provider answers but where the API is there."""

    def knock(self) -> None: ...


L = TypeVar("L", bound=Listed)


def ask_for_models(driver: Listed, seconds: float) -> Findings:
    """Return what a driver's list of models tells, within so many seconds."""
    began = time.monotonic()
    try:
        models = _limited(driver, seconds).models()
    except EngineError as error:
        if error.code or not isinstance(error, UnsupportedFeatureError):
            return of_error(error)
    else:
        return replace(of_list(driver, models), latency=time.monotonic() - began)
    return Findings(advice=f"The driver has no list of models: {_only_a_message(driver)}")


def ask_provider(driver: Knockable, seconds: float) -> Findings:
    """Return what the list of models tells, and in place of one an empty request."""
    deadline = time.monotonic() + seconds
    try:
        models = _limited(driver, seconds).models()
    except EngineError as error:
        if not isinstance(error, UnsupportedFeatureError) and error.code not in ABSENT:
            return of_error(error)
    else:
        found = replace(of_list(driver, models), latency=time.monotonic() - deadline + seconds)
        return found if found.error else _with_calls(driver, found, deadline)
    said = _knock(driver, deadline)
    if said is not None and (said.code not in (400, 422) or isinstance(said, AuthenticationError)):
        return of_error(said)
    advice = f"There is no list of models, only an API for messages; {_only_a_message(driver)}"
    return Findings(reachable=True, advice=advice)


def _with_calls(driver: Knockable, found: Findings, deadline: float) -> Findings:
    """Return what was found, with what speaks against calls though there is a list of models.

    A vendor has both; a server that BASE_URL names may speak another API, or take no key for its list alone.
    """
    if driver.config.get("base_url") is None:
        return found
    if any(not driver.config.get(name) for name in driver.required):
        return found  # a model that each call must name, for one
    error = _knock(driver, deadline)
    if error is None or not (lacks_path(error) or isinstance(error, AuthenticationError)):
        return found
    told = of_error(error)
    return replace(
        told,
        latency=found.latency,
        model=found.model,
        model_known=found.model_known,
        key_accepted=found.key_accepted if told.key_accepted is None else told.key_accepted,
        error=f"The list of models is there, but a call fails: {told.error}",
    )


def _knock(driver: Knockable, deadline: float) -> EngineError | None:
    """Return what a provider says of an empty request."""
    try:
        _limited(driver, max(deadline - time.monotonic(), 0.1)).knock()
    except EngineError as error:
        return error
    return None


def _limited(driver: L, seconds: float) -> L:
    """Return the driver for one attempt within so many seconds."""
    limits = {"timeout": {"total": seconds}, "max_retries": 0}
    known = {name: value for name, value in limits.items() if name in driver.known_options}
    return driver.replace(merge(driver.config, known))


def of_list(driver: Listed, models: list[str]) -> Findings:
    """Return what a list of models tells."""
    model = driver.config.get("model")
    found = Findings(reachable=True)
    advice = []
    if driver.models_need_key is not None and driver.config.get("api_key"):
        if driver.models_need_key:
            found = replace(found, key_accepted=True)
        else:
            advice.append(f"Its list of models may be open to anyone; of the key {_only_a_message(driver)}")
    if model is not None:
        found = replace(found, model_known=driver.offers(model, models))
        if found.model_known is False:
            found = replace(found, error=f"The provider does not offer the model {model!r}.")
            near = difflib.get_close_matches(model, models, n=2)
            advice.append(
                f"Change MODEL, perhaps to {' or '.join(map(repr, near))}."
                if near
                else f"Change MODEL: `manage.py bupple_models {driver.label}` lists what there is."
            )
        elif found.model_known is None:
            advice.append(f"{model!r} is not in the list, which may lack some; {_only_a_message(driver)}")
    elif "model" in driver.required:
        advice.append("No MODEL is set: add it to the entry, or name one in each call.")
    elif len(models) == 1:
        found = replace(found, model=models[0], model_known=True)
    return replace(found, advice=" ".join(advice))


def of_error(error: EngineError) -> Findings:
    """Return what a failed request tells."""
    words = error.message or type(error).__name__
    words += f" (status {error.code})" if error.code else ""
    found = Findings(reachable=True, error=words, advice=error.advice)
    # A proxy that wants credentials (407) is no answer of the provider's.
    if isinstance(error, ProviderConnectionError) and error.code in (0, 407):
        advice = "Check BASE_URL, PROXY and the way from this machine to there."
        return replace(found, reachable=False, advice=advice)
    if isinstance(error, AuthenticationError):
        return replace(found, key_accepted=False)
    if isinstance(error, QuotaExceededError):
        return replace(found, key_accepted=True)
    if error.code in ABSENT or lacks_path(error):
        advice = "Check BASE_URL: the API is not there."
        if error.advice != type(error).advice:
            advice += f" {error.advice}"
        return replace(found, advice=advice)
    if isinstance(error, ResponseParseError):
        return replace(found, advice="Check BASE_URL: what answers there is not this driver's API.")
    if error.retryable:
        return replace(found, advice="The provider may answer later: check again.")
    return found


def _only_a_message(driver: Listed) -> str:
    return (
        f"only a message, which costs tokens, could tell more (`manage.py bupple_chat {driver.label} -m Hi`)."
    )
