"""What a call is, apart from who makes it and what carries it out."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, TypeAlias, cast
from uuid import UUID

from bupple_engine.masking import MaskedDict
from bupple_engine.protocol.options import Options
from bupple_engine.types import Message

from .seams import new_id

Verb: TypeAlias = Literal["send", "stream", "embed", "run"]


class Call:
    """One call, as its observers see it; asend() is the verb "send", astream() the verb "stream".

    id is a UUID of version 7, the same in every log record, attempt and Outcome of the call. parent and step
    name the run that the call is a step of. driver is the service's name, model what is asked for, "" where
    the driver chooses. messages are as the driver gets them, those of `system` first; an observer's begin()
    may set them. options hold what the entry and the call say, keys and all that may be secret wrapped; to
    change them changes nothing. context is what the caller passed. facts are what observers leave for each
    other, by name.
    """

    def __init__(
        self,
        verb: Verb,
        alias: str,
        driver: str,
        model: str,
        messages: list[Message],
        options: Options,
        context: Any = None,
        parent: UUID | None = None,
        step: int | None = None,
    ) -> None:
        self.verb = verb
        self.alias = alias
        self.driver = driver
        self.model = model
        self.messages = messages
        self._options = options
        self.context = context
        self.parent = parent
        self.step = step
        self.facts: dict[str, Any] = {}

    @cached_property
    def options(self) -> Options:
        """A copy, made for whoever looks: the driver's own are those of all its calls."""
        found: Options = copied(self._options)
        return found

    @property
    def id(self) -> UUID:
        """What the call is known by; it is made when it is first asked for, as few calls do."""
        found: UUID | None = self.__dict__.get("_id")
        # setdefault: of two threads that make one at once, both get the same.
        return found if found is not None else cast("UUID", self.__dict__.setdefault("_id", new_id()))

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.verb} {self.alias!r}>"


def copied(value: Any) -> Any:
    """Return a copy of the dicts and lists that a value is made of; what stands in them stays the same."""
    if isinstance(value, dict):
        found = {name: copied(inner) for name, inner in value.items()}
        return type(value)(found) if isinstance(value, MaskedDict) else found
    return [*map(copied, value)] if isinstance(value, list) else value
