"""One entry of the settings, of which a driver is made: how it is shown, copied and pickled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from bupple_engine.calls.observers import Observer
from bupple_engine.masking import shown_in_config
from bupple_engine.masking.keys import unkeyed
from bupple_engine.protocol.options import COMMON, Option, Options, clocks


class Entry:
    """An alias, the name of its driver, its options, and who hears of its calls."""

    options: ClassVar[Mapping[str, Option]] = COMMON
    observers: tuple[Observer, ...] = ()  # those of the settings
    has_overrides = False  # set: it was made by ai(alias, **options)
    opened_by: Callable[[str], Entry] | None = None  # what makes it again from its alias: ai()

    def __init__(self, alias: str, name: str, config: Options) -> None:
        self.alias = alias
        self.name = name
        self.config = config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label!r}>"

    @cached_property
    def label(self) -> str:
        """The alias as it may be shown: somebody may have pasted a key for it."""
        return unkeyed(self.alias)

    @property
    def known_options(self) -> Mapping[str, Option]:
        """What an entry of this driver may hold."""
        return self.options

    def replace(self, config: Options) -> Self:
        """Return the same driver with other options: those of ai(alias, **options)."""
        return type(self)(self.alias, self.name, config)

    def get_config(self) -> dict[str, Any]:
        """Return what the driver runs with; headers, extra, credentials and keys in any option are masked."""
        config: dict[str, Any] = {"alias": self.label, "driver": self.name}
        for name in self.known_options:
            config[name] = shown_in_config(self.config.get(name))
        if "timeout" in config:
            config["timeout"] = clocks(self.config)._asdict()
        return config

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Have pickle write the alias down, which ai() makes a driver of again; the options are secret."""
        if self.has_overrides:
            raise TypeError(
                f"A driver made by ai({self.label!r}, **options) can't be pickled: its options may be secret."
                " Pass on the alias and what the options are made of, and call ai() where it is needed."
            )
        if self.opened_by is None:
            raise TypeError(f"A driver can't be pickled that was made by another than ai({self.label!r}).")
        return self.opened_by, (self.alias,)

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        memo[id(self.observers)] = self.observers
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied
