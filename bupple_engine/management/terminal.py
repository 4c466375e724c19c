"""What the commands have in common: text that is safe on a terminal, and pipes that close."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bupple_engine.exceptions import EngineError

# Such as begin an escape sequence, which could rewrite the screen or type for its reader.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text from elsewhere without what a terminal would obey; tabs and line feeds stay."""
    return _CONTROLS.sub("\ufffd", text)


@contextmanager
def reported() -> Iterator[None]:
    """Have what goes wrong end a command in one line and status 1, a closed pipe without any."""
    logger = logging.getLogger("bupple_engine")
    hush = logging.NullHandler()
    if not logger.hasHandlers():
        logger.addHandler(hush)  # else logging's last resort would say on stderr what the command says
    try:
        yield
        sys.stdout.flush()
    except (EngineError, ImproperlyConfigured) as error:
        raise CommandError(printable(str(error))) from error
    except CommandError:
        raise
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # of a site's own driver, or of the callable that gives the key
        raise CommandError(printable(f"{type(error).__name__}: {error}")) from error
    finally:
        logger.removeHandler(hush)
