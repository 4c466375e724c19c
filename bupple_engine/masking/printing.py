"""What others say, made safe to print: in a log, on a page, on a terminal."""

from __future__ import annotations

import re

# Those that begin an escape sequence, for one, which could rewrite the screen or type on the reader's behalf.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What ends a line for str.splitlines, and so for readers of logs; with the white space around it.
_LINE_ENDS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
# Controls; what reverses the direction of text, or is invisible; lone surrogates, which no handler can write.
# The joiners of emoji and of Persian stay.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """Return a text without what a terminal would act on; tabs and line feeds stay."""
    return _CONTROLS.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Return a text on one line, without what could forge another line or reorder this one."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub("\ufffd", _LINE_ENDS.sub(" ", text).replace("\t", " "))


def kind_of(value: object) -> str:
    """Return what a value is, with its article: a str, an int, None."""
    return "None" if value is None else with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Return a type's name with its article."""
    return name if name == "bytes" else f"{'an' if name[:1] in 'aeioAEIO' else 'a'} {name}"
