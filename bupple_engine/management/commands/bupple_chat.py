"""manage.py bupple_chat: a conversation in the terminal, or one message whose answer can be piped."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from bupple_engine import Chunk, EngineError, Message, ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.management.terminal import reported
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line, printable
from bupple_engine.protocol.answer import fold

QUOTES = '"""'
BANNER = (
    "Ctrl-C stops an answer, Ctrl-D ends the conversation. A \\ at the end of a line continues it; "
    f"{QUOTES} alone on a line begins and ends several."
)


class Command(BaseCommand):
    """Talk with a driver."""

    help = (
        "Talks with a driver in the terminal. With -m, or where standard input or output is not a terminal, "
        "it sends one message and writes the answer alone to standard output."
    )
    requires_system_checks = ()  # what is wrong with another driver is of no matter here

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("alias", nargs="?", help="The driver; the default one, if none is given.")
        parser.add_argument("-m", "--message", help="Send only this message, print its answer, and exit.")
        parser.add_argument("--system", help="The system message, which goes before all others.")
        parser.add_argument("--model", help="A model other than the entry's.")

    def handle(self, *args: Any, **options: Any) -> None:
        with reported():
            chosen = {} if options["model"] is None else {"model": options["model"]}
            driver = ai(options["alias"], **chosen)
            history: list[Message] = []
            if options["system"]:
                history.append({"role": "system", "content": options["system"]})
            if options["message"] is None and _is_typed() and self.stdout.isatty():
                self._converse(driver, history)
            else:
                self._answer_once(driver, history, options["message"])

    def _answer_once(self, driver: ChatDriver, history: list[Message], message: str | None) -> None:
        if message is None:
            if _is_typed():
                self._note("Type the message and end it with Ctrl-D.")
            try:
                message = sys.stdin.read() if sys.stdin else ""
            except UnicodeDecodeError:
                raise CommandError("Standard input is not text.") from None
        if not message.strip():
            raise CommandError("There is no message: give one with -m, or on standard input.")
        chunks: list[Chunk] = []
        try:
            self._stream(driver, [*history, {"role": "user", "content": message}], chunks)
        finally:
            if (text := _text(chunks)) and not text.endswith("\n"):
                self.stdout.write("")

    def _converse(self, driver: ChatDriver, history: list[Message]) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401  # input() then edits lines and recalls them
        config = driver.get_config()
        self._note(f"{driver.label}: {', '.join(filter(None, (driver.name, config.get('model'))))}")
        self._note(BANNER)
        while True:
            try:
                question = self._read()
                if _is_command(question):
                    self._note("There are no commands, and it was not sent. " + BANNER)
                elif question.strip():
                    self._exchange(driver, history, question)
            except KeyboardInterrupt:
                self.stdout.write("")  # as a shell does: what was typed is dropped
            except EOFError:
                self.stdout.write("")
                return

    def _exchange(self, driver: ChatDriver, history: list[Message], question: str) -> None:
        """Ask, show the answer, and keep both; a question to which nothing was said is not kept."""
        history.append({"role": "user", "content": question})
        chunks: list[Chunk] = []
        ending = ""
        try:
            self._stream(driver, history, chunks, aloud=True)
        except KeyboardInterrupt:
            ending = "stopped"
        except (EngineError, ImproperlyConfigured) as error:
            ending = one_line(str(error))
        except Exception as error:  # of a site's own driver, or of the callable that gives the key
            ending = one_line(unkeyed(f"{type(error).__name__}: {error}"))
        if chunks or ending == "stopped":
            self.stdout.write("")
        if chunks and chunks[-1]["done"]:
            history.append(cast("Message", fold(iter([chunks]))))
        elif text := _text(chunks):
            history.append({"role": "assistant", "content": text, "metadata": {"interrupted": True}})
            self._note(f"[{ending}; what was said stays in the conversation]")
        else:
            history.pop()
            self._note(f"[{ending}; the question is not kept]")

    def _stream(
        self, driver: ChatDriver, messages: list[Message], chunks: list[Chunk], *, aloud: bool = False
    ) -> None:
        """Write the answer as it comes, aloud with the reasoning before it, and add what came to chunks."""
        show = printable if self.stdout.isatty() else str
        thinking = False
        with driver.stream(messages) as stream:
            for chunk in stream:
                chunks.append(chunk)
                thought = "" if chunk["done"] else chunk.get("metadata", {}).get("reasoning", "")
                if thought and aloud:
                    self.stdout.write(show(thought), self.style.HTTP_NOT_MODIFIED, ending="")
                    thinking = True
                elif thinking and chunk["content"]:
                    self.stdout.write("\n\n", ending="")
                    thinking = False
                self.stdout.write(show(chunk["content"]), ending="")
                self.stdout.flush()
        if chunks and (reason := chunks[-1].get("finish_reason", "stop")) != "stop":
            self._note(f"\n[finish reason: {one_line(str(reason))}]")

    def _read(self) -> str:
        """Return what is typed, of one line or several."""
        lines: list[str] = []
        quoted = False
        while True:
            line = input("… " if lines or quoted else "> ")
            if line.strip() == QUOTES:
                if quoted:
                    return "\n".join(lines)
                quoted = True
            elif quoted:
                lines.append(line)
            elif line.endswith("\\"):
                lines.append(line[:-1])
            else:
                return "\n".join([*lines, line])

    def _note(self, text: str) -> None:
        self.stderr.write(printable(text), str)


def _is_command(question: str) -> bool:
    """Return whether a line such as /help is meant for us; a path has another slash."""
    return re.fullmatch(r"/[a-z?]+(\s+\S+)?", question.strip()) is not None


def _is_typed() -> bool:
    """Return whether standard input is a terminal; it is None where it was closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def _text(chunks: list[Chunk]) -> str:
    return "".join(chunk["content"] for chunk in chunks)
