"""What is checked of the values in an entry, which may all be right in another place."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

from django.core.checks import CheckMessage

from bupple_engine.conf.naming import load
from bupple_engine.conf.reading import Reading
from bupple_engine.drivers import DRIVERS
from bupple_engine.exceptions import UnsupportedFeatureError
from bupple_engine.masking import SecretURL, reveal
from bupple_engine.masking.keys import looks_like_key, shown, unkeyed
from bupple_engine.protocol import vendors
from bupple_engine.protocol.options import COMMON
from bupple_engine.protocol.request import join_url
from bupple_engine.wires.base import Wire, family
from bupple_engine.wires.facts import CHECKED

from .table import Places, message

_PLACEHOLDER = re.compile(r"<|\{|\.\.\.|…|\byour\b|your[-_]|placeholder", re.IGNORECASE)
_PLACEHOLDER_KEY = re.compile(
    rf"{_PLACEHOLDER.pattern}|x{{6,}}|x{{4,}}$|(change|replace|insert|fill)[-_ ]?(me|it|this|here)|^\$|^%.*%$"
    r"|^(x+|none|null|todo|dummy|test|secret|key|token|example|password|api[-_ ]?key)$"
    r"|^[a-z]+([-_ ][a-z]+)*[-_ ](key|token)$",
    re.IGNORECASE,
)
_VENDORS = {"openai", "openai_chat", "claude", "gemini"}  # which serve models of their own alone
# What nobody means as a key, even where none is needed.
_UNFILLED = re.compile(r"^<.*>$|^\$|\{\{")
# What a file of variables leaves in a value: quotes around it, a comment behind it.
_LEFTOVER = re.compile(r"^[\"'].*[\"']$|\s#")
CALLABLE_KEY = 'Write "API_KEY": get_token, a callable that returns a fresh one; each call asks it.'
_VERSION_TWICE = re.compile(r"/v\d+\w*/v\d+\w*(?=/|$)")
_FILES = ("ca_file", "model_path")


def check_pasted_keys(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    """Yield the options, and the alias, that seem to hold a key though they are not meant for one."""
    hint = (
        f"Move it to API_KEY, read from the environment: {at.variable('api_key')}; and replace it, as this "
        "one may have been sent, shown or logged."
    )
    if looks_like_key(at.alias):
        yield message("W023", at.entry, "has an alias that looks like a key.", "Name it, and move the key.")
    for name, value in reading.entry.items():
        # What is secret may be a key: headers and EXTRA may carry one, and W011 reports a URL's.
        option = (reading.known or COMMON).get(str(name).lower())
        found = reveal(value)
        values = found if isinstance(found, list | tuple) else [found]
        if not (option is not None and option.secret) and any(map(looks_like_key, values)):
            yield message("W023", at[str(name)], "looks like a key, but is sent as something else.", hint)


def check_key(at: Places, wire: Wire, reading: Reading) -> Iterator[CheckMessage]:
    key = reading.config.get("api_key")
    if key is None or not key.is_fixed:
        return  # a callable is never asked here
    if re.search(r"\s|^[\"']|[\"']$", key.reveal()):
        words = "contains white space or quotes, which no key does."
        hint = "Write the bare key, without 'Bearer ' before it and without quotes around it; "
        yield message("W007", at["api_key"], words, hint + "docker's --env-file keeps quotes.")
    elif "api_key" not in wire.required and not _UNFILLED.search(key.reveal()):
        return  # what wants no key is often given a word for one
    elif _PLACEHOLDER_KEY.search(key.reveal()):
        # django-environ leaves a reference as it stands where what it names is not set.
        referred = re.fullmatch(r"\$\{?(\w+)\}?", key.reveal())
        hint = (
            f"Set the environment variable {at.variable('api_key')} to the key that {reading.name} gave you"
        )
        hint += f", or set {referred[1]}, to which it refers." if referred else "."
        yield message("W006", at["api_key"], "is still a placeholder.", hint)
    elif any(map(key.reveal().startswith, wire.expiring_keys)):
        words = "is a token that expires within hours."
        yield message("W026", at["api_key"], words, CALLABLE_KEY)
    elif reading.config.get("base_url") is None or ("base_url" in wire.required and wire.key_prefixes):
        prefix = max(filter(key.reveal().startswith, _owners()), key=len, default="")
        owners = _owners().get(prefix, ())
        # Several vendors' keys begin with sk-: that alone says little of one whose beginnings aren't known.
        if owners and prefix not in wire.key_prefixes and (wire.key_prefixes or prefix != "sk-"):
            words = f"begins with {prefix!r}, as keys of {' and '.join(owners)} do: is it another vendor's?"
            hint = f"Set the environment variable {at.variable('api_key')} to a key of {reading.name}."
            yield message("W008", at["api_key"], words, hint)


@cache
def _owners() -> dict[str, list[str]]:
    """Return what keys begin with, and the drivers whose keys do."""
    owners: dict[str, list[str]] = {}
    for name in DRIVERS:
        wire = load(name, name).wire
        for prefix in wire.key_prefixes if wire else ():
            owners.setdefault(prefix, []).append(name)
    return owners


def check_leftovers(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    for name in ("model", "base_url"):
        value = reading.config.get(name)
        if value is not None and _LEFTOVER.search(reveal(value)):
            words = "has quotes around it or a comment behind it, which are read as part of it."
            hint = "Write the bare value; a comment in .env has a line of its own."
            yield message("W007", at[name], words, hint)


def check_url(at: Places, wire: Wire, reading: Reading) -> Iterator[CheckMessage]:
    url = reading.config.get("base_url")
    if url is None:
        return
    parts = urlsplit(url.reveal())
    masked = repr(url)
    if "…" in masked and "…" not in url.reveal():
        words = "contains credentials, which error pages and other logs show."
        hint = "Remove them: a key goes in API_KEY, a password that the server asks for in HEADERS."
        yield message("W011", at["base_url"], words, hint)
    elif _PLACEHOLDER.search(url.reveal()):
        shape = wire.base_url(reading.config)
        hint = f"It is {shape}, with your own values in place of <>." if "<" in shape else ""
        hint = hint or "Write the URL of the service."
        yield message("W006", at["base_url"], "is still a placeholder.", hint)
    if parts.scheme == "http" and not is_this_machine(parts.hostname or ""):
        words = "is plain http: anyone between here and that host can read keys and conversations."
        hint = f'Write "BASE_URL": "https{masked[4:]}", or, if only your own network lies between, '
        hint += 'SILENCED_SYSTEM_CHECKS = ["bupple_engine.W009"]'
        yield message("W009", at["base_url"], words, hint)
    final = urlsplit(join_url(url.reveal(), wire.build_path({"model": "m", **reading.config}, False))).path
    if twice := _VERSION_TWICE.search(final):
        words = f"doubles the version: calls go to {unkeyed(final)}"
        right = "".join(masked.rpartition(twice[0].rpartition("/")[0])[::2])
        yield message("W010", at["base_url"], words, f'Write "BASE_URL": "{right}"')
    elif wire.needs_path and not parts.path.strip("/"):
        ending = urlsplit(wire.base_url(reading.config))._replace(scheme="", netloc="")
        words = f"lacks the path: {reading.name} answers only below {ending.path}."
        line = f'"BASE_URL": "{masked.rstrip("/")}{ending.geturl()}"'
        yield message("W010", at["base_url"], words, f"Write {line}")


def is_this_machine(host: str) -> bool:
    """Return whether a host's name or address is the machine itself; no name is looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def suggest_model(at: Places, wire: Wire) -> str:
    """Return the hint that names a model, or the command that lists the models."""
    if not wire.suggested_model:
        try:
            wire.build_models_path({}, "")
        except UnsupportedFeatureError:
            return 'Write "MODEL": "…", a name from the service\'s documentation; it has no list of models.'
        variable = f", or set {at.variable('model')}" if at.reader("model") else ""
        return f'Write "MODEL": "…"{variable}; `manage.py bupple_models {at.alias}` lists the names.'
    variable = f", or set {at.variable('model')}={wire.suggested_model}" if at.reader("model") else ""
    return f'Write "MODEL": "{wire.suggested_model}"{variable}'


def check_model(at: Places, wire: Wire, reading: Reading) -> Iterator[CheckMessage]:
    model = reading.config.get("model")
    if model is None:
        return
    hint = suggest_model(at, wire)
    if _PLACEHOLDER.search(model):
        yield message("W006", at["model"], "is still a placeholder.", hint)
    elif reading.config.get("base_url") is None:  # another host may give its models any name
        day = wire.shutdowns.get(model, wire.shutdowns.get(family(model)))
        if day is not None:
            when = f"on {day}" if day else f"by {date.fromisoformat(CHECKED):%B %Y}"
            past = not day or date.fromisoformat(day) < date.today()
            words = f"was shut down {when}" if past else f"will be shut down {when}"
            yield message("W013", at["model"], f"is {model}, which {words}.", hint)
        owner = vendors.driver_of(model)
        if {reading.name, owner} <= _VENDORS and owner != reading.name.removesuffix("_chat"):
            words = f"is {model}, as models of {owner} are called: is it another vendor's?"
            yield message("W008", at["model"], words, hint)


def check_refused(at: Places, wire: Wire, reading: Reading) -> Iterator[CheckMessage]:
    options = dict(reading.config)
    while True:
        try:
            wire.check_options(options)
            break
        except UnsupportedFeatureError as error:
            name = error.param or ""
            if options.pop(name, None) is None:
                raise
            words = error.message.removeprefix(f"{name} ")
            yield message("W012", at[name], words, f'Remove "{name.upper()}" from the entry.')
    for name, reason in wire.refused_options(options):
        yield message(
            "W012", at[name], f"will be refused: {reason}.", f'Remove "{name.upper()}" from the entry.'
        )


def check_files(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    for name in _FILES:
        path = reading.config.get(name) if name in reading.known else None
        if path is not None and not os.path.exists(path):
            words = f"is {shown(path)}, which does not exist."
            yield message("W014", at[name], words, "Write the path of a file.")


def check_proxy(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    proxy = reading.config.get("proxy") if "proxy" in reading.known else None
    if not isinstance(proxy, SecretURL):
        return
    scheme = urlsplit(proxy.reveal()).scheme
    if scheme.startswith("socks") and find_spec("socks") is None:
        hint = 'Run: pip install "requests[socks]"; asynchronous calls take only http:// and https://.'
        yield message("W015", at["proxy"], "is a SOCKS proxy, but PySocks is not installed.", hint)
    elif not scheme.startswith(("http", "socks")):
        hint = 'Write "PROXY": "http://proxy.example:3128"'
        yield message("E011", at["proxy"], "must begin with http://, https:// or socks5://", hint)
