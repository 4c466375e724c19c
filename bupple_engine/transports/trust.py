"""Whether a kept connection may carry another request, and what makes an answer's end doubtful."""

from __future__ import annotations

import functools
import logging
import re
import select
from collections.abc import Callable, Collection
from typing import Any

logger = logging.getLogger("bupple_engine")

# A head of status 1xx that is none of the answer's: 103 Early Hints, 102 Processing. None sends a hundred.
MAX_INFORMATIONAL = 100
UNASKED = "Something came on a kept connection from which nothing was owed"


class StaleConnection(ConnectionError):
    """A kept connection that can't take a request any more; nothing that matters has been sent on it."""


class Lookout:
    """Look whether anything has come on a socket, its end among it, without waiting or reading.

    Each call looks several times: what it looks with is kept as long as the connection is.
    """

    __slots__ = ("_look",)

    def __init__(self, connected: Any) -> None:
        descriptor = connected.fileno()
        self._look: Callable[[], Any]
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            self._look = functools.partial(poll.poll, 0)
        else:  # Windows
            self._look = lambda: select.select([descriptor], [], [], 0)[0]

    def sees(self) -> bool:
        """Return whether a read would not have to wait."""
        return bool(self._look())


class Trust:
    """Whether a server's connections are kept: no more, once it has sent what nobody had asked for.

    What it sends between our look at a connection and our request on it can't be told from the answer.
    """

    __slots__ = ("_host", "lost")

    def __init__(self, host: str) -> None:
        self._host = host
        self.lost = False

    def judge(self, unasked: bytes) -> None:
        """Take note of what came on a connection from which nothing was owed."""
        # By a 408 servers say that they close what was idle; some end each answer with a line end too many.
        if self.lost or b"408" in unasked[:16] or not unasked.strip(b"\r\n"):
            return
        self.lost = True
        logger.warning(
            "%s sent what nobody had asked for on a kept connection. From now on none of its connections is"
            " kept, so that no caller is given another's answer.",
            self._host,
        )


# What is no compression may stand in a header Content-Encoding by mistake, such as "utf-8".
_COMPRESSION = re.compile(r"gzip|deflate|compress|\b(br|zstd|dcb|dcz|lz4|xz|bzip2|snappy)\b")


def refused_coding(coding: str | None, known: Collection[str]) -> str:
    """Return what is wrong with a header Content-Encoding that can't be taken off, else ""."""
    found = (coding or "").strip().lower()
    if found in known or not _COMPRESSION.search(found):
        return ""
    return f"it is encoded as {found[:20]!r}, which nobody asked for"
