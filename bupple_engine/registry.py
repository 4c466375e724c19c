"""ai(), and the drivers of the process: each is made once, when it is first asked for."""

from __future__ import annotations

import threading
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from . import conf
from .drivers import DRIVERS
from .drivers.base import ChatDriver, parse_options
from .exceptions import InvalidDriverError
from .masking import protect
from .options import Option, Options, merge, suggest
from .wire import Wire

_lock = threading.Lock()
_drivers: dict[str, ChatDriver] = {}


def ai(alias: str | None = None, /, **options: Any) -> ChatDriver:
    """Return the driver of an alias, of the default one without; options are laid over its entry.

    Raises an InvalidDriverError for an alias that the settings lack, an ImproperlyConfigured for an
    entry that is wrong, and an InvalidRequestError for a wrong option.
    """
    options = protect(options)
    driver = get_driver(conf.default_alias() if alias is None else alias)
    if not options:
        return driver
    known = {name: Option(option.parse) for name, option in driver.known_options.items()}
    return driver.replace(merge(driver.config, parse_options(options, known)))


def get_driver(alias: str) -> ChatDriver:
    """Return the process's driver for an alias."""
    driver = _drivers.get(alias)
    if driver is None:
        with _lock:
            driver = _drivers.get(alias)
            if driver is None:
                driver = _drivers[alias] = build_driver(alias, conf.entry(alias))
    return driver


def build_driver(alias: str, entry: dict[str, Any]) -> ChatDriver:
    """Return a driver made from an entry whose secrets are wrapped."""
    where = f"BUPPLE_ENGINE['DRIVERS'][{alias!r}]"
    name = entry.get("DRIVER", alias)
    if not isinstance(name, str):
        raise ImproperlyConfigured(f"{where}['DRIVER'] must be a short name or a dotted path.")
    driver_class, wire = load(name, where)
    known = wire.options if wire is not None else driver_class.options
    config = parse_entry(entry, known, where)
    if wire is None:
        return driver_class(alias, name, config)
    return driver_class(alias, name, config, wire)  # type: ignore[call-arg]


def load(name: str, where: str) -> tuple[type[ChatDriver], Wire | None]:
    """Return the class behind a short name or a dotted path, and the wire where it speaks HTTP."""
    path, _, service = DRIVERS.get(name, name).partition(":")
    if "." not in path:
        raise InvalidDriverError(f"{where}: there is no driver {name!r}.{suggest(name, DRIVERS)}")
    try:
        found = import_string(path)
    except ImportError as error:
        raise InvalidDriverError(f"{where}['DRIVER']: {name!r} can't be imported: {error}") from error
    if isinstance(found, type) and issubclass(found, Wire):
        from .drivers.http import HTTPDriver

        return HTTPDriver, found(service or name.rpartition(".")[2])
    if isinstance(found, type) and issubclass(found, ChatDriver):
        return found, None
    raise InvalidDriverError(f"{where}['DRIVER']: {name!r} is no subclass of ChatDriver or Wire.")


def parse_entry(entry: dict[str, Any], known: Any, where: str) -> Options:
    """Return an entry's options by lower-case name, the defaults of those that it lacks among them."""
    config: Options = {name: option.default for name, option in known.items() if option.default is not None}
    names = [name.upper() for name in known]
    for key in entry:
        if key == "DRIVER":
            continue
        if key not in names:
            raise ImproperlyConfigured(
                f"{where}: unknown option {key!r}.{suggest(str(key), [*names, 'DRIVER'])}"
            )
        value = entry[key]
        if value is None or (key == "API_KEY" and not _is_set(value)):
            continue
        try:
            config[key.lower()] = known[key.lower()].parse(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"{where}[{key!r}] {error}, not {value!r}.") from None
    return config


def _is_set(key: Any) -> bool:
    """Tell an empty key, as an environment variable that is not set gives it, from one that is there."""
    return bool(key != protect({"api_key": ""})["api_key"])


def reset() -> None:
    """Forget the drivers; the next call makes them anew."""
    with _lock:
        _drivers.clear()


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "BUPPLE_ENGINE":
        from . import threads
        from .transports import close_transports

        reset()
        close_transports()
        threads.reset()


setting_changed.connect(_on_setting_changed)
