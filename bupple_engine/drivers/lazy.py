"""Strings that are made when they are looked at, such as gettext_lazy's; a call makes them at its start."""

from __future__ import annotations

from typing import Any

from django.utils.functional import Promise

from bupple_engine.masking import Hidden


def is_lazy(value: Any) -> bool:
    """Return whether a value is a lazy translation, or a SimpleLazyObject around a string."""
    return isinstance(value, Promise) or (isinstance(value, str) and not issubclass(type(value), str))


def plain(value: Any) -> Any:
    """Return a value with the lazy strings in it, also those of a list, as strings of now."""
    if isinstance(value, list | tuple) and any(map(is_lazy, value)):
        return [plain(item) for item in value]
    return str(value) if is_lazy(value) else value


def plain_option(value: Any) -> Any:
    """Return the same of an option that is wrapped, which stays so."""
    return Hidden(plain(value.reveal())) if type(value) is Hidden else value


def plain_message(message: Any) -> Any:
    """Return a message whose content, and that of its parts, holds no lazy string."""
    if not isinstance(message, dict) or type(content := message.get("content")) is str:
        return message  # nearly all
    if isinstance(content, list | tuple):
        return {**message, "content": [plain_message(part) for part in content]}
    return {**message, "content": plain(content)} if is_lazy(content) else message
