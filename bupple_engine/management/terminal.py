"""What the commands have in common: how they end, and pipes that close."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bupple_engine.exceptions import EngineError
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line


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
        raise CommandError(one_line(str(error))) from error
    except CommandError:
        raise
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # of a site's own driver, or of the callable that gives the key
        raise CommandError(one_line(unkeyed(f"{type(error).__name__}: {error}"))) from error
    finally:
        logger.removeHandler(hush)
