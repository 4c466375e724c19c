"""What an entry and a call may set: names, types, defaults, and how two sets of them are merged."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from bupple_engine.masking import Headers, Hidden, Kind, MaskedDict, SecretURL, conceal, hide, unkeyed_name
from bupple_engine.masking.printing import kind_of

from .values import api_key, choice, extra, headers, integer, number, path, proxy, stop, string, url

# A day: an operating system's clocks don't take arbitrary numbers of seconds.
MAX_SECONDS = 86_400

# An option's value after parsing, by lower-case name; secrets in it are wrapped.
Options = dict[str, Any]


class EntryOptions(dict[str, Any]):
    """Be the options of an entry, and keep what all the requests that are built of them have in common.

    heads is a wire's. Whoever lays other options over these has a dict, which keeps nothing.
    """

    __slots__ = ("heads",)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.heads: dict[Any, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> EntryOptions:
        return EntryOptions(copy.deepcopy(dict(self), memo))


class Clocks(NamedTuple):
    """How long a call may wait, in seconds; send() has connect and total only."""

    connect: float = 5.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Limits(NamedTuple):
    """How much of an answer is held, in bytes: an unfinished event of a stream, and the whole."""

    event: int = 16_000_000
    response: int = 100_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Option:
    """All that is known about one option; masking, environment, checks and docs read it from here.

    parse: returns the clean value of a plain one, or raises a ValueError whose words follow the option's
    name. default: the clean value if none is set. per_call: False if only an entry may set it. secret: True
    wraps the clean value in a Secret, which shows nothing and is masked where others quote it; its reveal()
    returns the value. SecretURL is for a URL with credentials, MaskedDict for a dict of which some values may
    be secret, judged by names and values. env: a callable that reads the text of the variable
    BUPPLE_ENGINE_<ALIAS>_<NAME>, such as str, int or float; without it engine_settings() reads no variable.
    After a ValueError the text is left for parse to refuse. help: what it is, in one line. example: what may
    be written for it in an entry.
    """

    parse: Callable[[Any], Any]
    _: KW_ONLY
    default: Any = None
    per_call: bool = True
    secret: Kind = False
    env: Callable[[str], Any] | None = None
    help: str = ""
    example: str = ""

    def __post_init__(self) -> None:
        if self.parse in (integer, number, choice):
            raise TypeError(f"Option({self.parse.__name__}) must be Option({self.parse.__name__}(…))")
        if not callable(self.parse):
            raise TypeError(f"Option({self.parse!r}) must have a callable, such as string or integer()")
        if self.env is not None and not callable(self.env):
            raise TypeError(f"Option(env={self.env!r}) must be a callable, such as str, int or float")
        if self.secret not in (True, False, SecretURL, MaskedDict, Headers):
            raise TypeError(f"Option(secret={self.secret!r}) must be True, False, SecretURL or MaskedDict")

    def conceal(self, value: Any) -> Any:
        """Return a value of the option, wrapped if it is secret."""
        return conceal(value, self.secret) if self.secret else value


def find_fault(options: object, required: object) -> str:
    """Return what is wrong with a class's options and required, in words that follow its name."""
    if not isinstance(options, Mapping):
        return f"must have `options` as a dict, not {kind_of(options)}"
    for name, option in options.items():
        if not isinstance(name, str) or name != name.lower():
            return f"must name its options in lower case, not {name!r}: only an entry has them in capitals"
        if not isinstance(option, Option):
            return f"must have an Option at options[{name!r}], not {kind_of(option)}: write Option(string)"
    if not isinstance(required, tuple | list):
        return f"must have `required` as a tuple of names, not {kind_of(required)}"
    for name in required:
        if name not in options:
            return f"requires {name!r}, which its options lack"
    return ""


def timeout(value: Any) -> dict[str, float]:
    """Accept seconds for the whole call, or a dict of some of the clocks."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value <= MAX_SECONDS:
            raise ValueError(f"must be more than 0 and at most {MAX_SECONDS:,} seconds")
        return {"total": value}
    if not isinstance(value, dict) or not value:
        raise ValueError(f"must be seconds, or a dict of {', '.join(Clocks._fields)}")
    for name, seconds in value.items():
        if name not in Clocks._fields:
            raise ValueError(f"has no clock {name!r}; the clocks are {', '.join(Clocks._fields)}")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"must have more than 0 and at most {MAX_SECONDS:,} seconds at {name!r}")
    return dict(value)


COMMON: Mapping[str, Option] = {
    "api_key": Option(
        api_key,
        secret=True,
        env=str,
        help="the provider's key: a string, or a callable that returns one (a vault, a rotating token)",
        example='env.str("BUPPLE_ENGINE_CLAUDE_API_KEY")',
    ),
    "model": Option(
        string, env=str, help="the model, as the provider names it", example='"claude-sonnet-5-5"'
    ),
    "temperature": Option(number(0), env=float, help="the sampling temperature, from 0", example="0.2"),
    "max_tokens": Option(
        integer(1), env=int, help="the most tokens that the answer may have", example="4096"
    ),
    "top_p": Option(
        number(0, 1),
        help="the share of nucleus sampling, 0 to 1",
        example="0.9",
    ),
    "stop": Option(stop, help="a string, or a list of them, at which the answer ends", example='["END"]'),
    "seed": Option(integer(), help="makes answers repeatable, as far as the provider can", example="7"),
    "reasoning_effort": Option(
        string,
        help="how much the model reasons first, in the provider's own word: `none`, `low`, `high`, …",
        example='"low"',
    ),
    "timeout": Option(
        timeout,
        help="seconds for the whole call, or a dict of the clocks `connect` 5, `first_token` 60, `idle` 60, "
        "`total` 600",
        example='{"first_token": 60, "total": 300}',
    ),
    "max_retries": Option(
        integer(0), default=2, help="how often a failed attempt is repeated, where that may help", example="2"
    ),
    "extra": Option(
        extra,
        secret=MaskedDict,
        help="merged into the body last, for whatever else the provider takes",
        example='{"service_tier": "flex"}',
    ),
    "headers": Option(
        headers, secret=Headers, help="laid over the request's headers last", example='{"X-Team": "search"}'
    ),
    "base_url": Option(
        url,
        per_call=False,
        secret=SecretURL,
        env=str,
        help="where the API is, in place of the provider's own URL",
        example='"https://llm.example.com/v1"',
    ),
    "proxy": Option(
        proxy,
        per_call=False,
        secret=SecretURL,
        help="a proxy; without it those that the environment names, as requests reads them",
        example='"http://proxy.example.com:3128"',
    ),
    "ca_file": Option(
        path,
        per_call=False,
        help="a CA bundle; without it the one that the environment names, as requests reads it",
        example='"/etc/ssl/certs/company.pem"',
    ),
    "max_event_bytes": Option(
        integer(1),
        per_call=False,
        default=DEFAULT_LIMITS.event,
        help="how much of an unfinished event of a stream is held",
    ),
    "max_response_bytes": Option(
        integer(1), per_call=False, default=DEFAULT_LIMITS.response, help="how much of an answer is held"
    ),
}

# What belongs to the caller and is not an option of a driver: it is passed on unchanged.
_OPEN = ("context", "memory", "messages", "observers", "system")


def protect(options: Mapping[Any, Any]) -> MaskedDict:
    """Return a copy with what may be secret wrapped; never raises, so that no raw value is in a traceback.

    A secret may also stand under a misspelt name, in the wrong option, or in an option that only a third
    party's driver knows to be secret. So everything is wrapped except the numbers of COMMON, and whatever
    reads an option reveals it.
    """
    if not options:
        return MaskedDict()
    return MaskedDict({unkeyed_name(name): _wrap(str(name).lower(), options[name]) for name in options})


def _wrap(name: str, value: Any) -> Any:
    if name in _OPEN:
        return value
    option = COMMON.get(name)
    if option is not None:
        return option.conceal(value) if option.secret else hide(value)
    return Hidden(value) if type(value) in (int, float) else hide(value)


def merge(below: Options, above: Options) -> Options:
    """Return below with above laid over it; dicts (extra, headers, timeout) are merged key by key."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = merge_dicts(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def merge_dicts(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the deep merge of two dicts, as below's class; values that are not dicts are replaced."""
    return type(below)(merge(below, above))


_CLOCKS = Clocks()


def clocks(options: Options) -> Clocks:
    """Return the clocks of a call; none is longer than the total."""
    if not options.get("timeout"):
        return _CLOCKS
    chosen = _CLOCKS._replace(**options["timeout"])
    return Clocks(*(min(seconds, chosen.total) for seconds in chosen))


def limits(options: Options) -> Limits:
    """Return how much of an answer may be held in memory."""
    return Limits(options["max_event_bytes"], options["max_response_bytes"])


def suggest(name: str, known: Collection[str]) -> str:
    """Return the sentence that follows an unknown name: the nearest known ones, or all of them."""
    # difflib needs fifty times the memory of the word, which may come from a client.
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6) if len(name) <= 100 else []
    if near:
        return f" Did you mean {' or '.join(repr(word) for word in near)}?"
    return f" Known are {', '.join(sorted(known))}." if known else ""
