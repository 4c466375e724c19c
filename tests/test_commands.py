"""The commands: called, run as processes, and typed at in a terminal of their own."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks.registry import registry
from django.core.management import CommandError, call_command

from bupple_engine.drivers.local import driver as local
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.wires import EVENTS, JSON, KEY, WIRES
from tests.worlds import until

pty = pytest.importorskip("pty", reason="There is no terminal to be had")

ROOT = Path(__file__).parent.parent
WIRE = WIRES[1]
SECONDS = 30


def models(*names: str) -> Answer:
    body = {"object": "list", "data": [{"id": name} for name in names]}
    return Answer(headers=JSON, body=json.dumps(body).encode())


def said(*texts: str, **options: Any) -> Answer:
    return Answer(headers=EVENTS, body=WIRE.stream(texts, **options))


def refused(words: str) -> Answer:
    return Answer(401, JSON, json.dumps({"error": {"message": words}}).encode())


def call(name: str, *args: str) -> tuple[str, str]:
    """Run a command in this process; return what it wrote to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command(name, *args, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def environment(**drivers: dict[str, Any]) -> dict[str, str]:
    """Give a process its settings: JSON in the environment, read by tests.settings_commands."""
    engine = {"DEFAULT": next(iter(drivers)), "DRIVERS": drivers}
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings_commands",
        "TESTS_BUPPLE_ENGINE": json.dumps(engine),
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "dumb",  # no escape sequences of a line editor
        "INPUTRC": os.devnull,
        "DJANGO_COLORS": "nocolor",
    }


def run(args: list[str], env: dict[str, str], typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own, its standard input what is typed."""
    return subprocess.run(
        [sys.executable, "-m", "django", *args],
        env=env,
        input=typed,
        stdin=subprocess.DEVNULL if typed is None else None,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, args: list[str], env: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, "-m", "django", *args], env)  # noqa: S606
        self.seen = ""
        self.bytes = b""
        self.position = 0
        self.status: int | None = None

    def read(self, deadline: float) -> bool:
        """Take in what is shown; tell whether more may come."""
        if not select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise TimeoutError(f"Not shown in time; all there is: {self.seen!r}")
        try:
            data = os.read(self.fd, 65_536)
        except OSError:  # Linux says so where the other side has gone
            data = b""
        self.bytes += data
        self.seen = self.bytes.decode("utf-8", "ignore").replace("\r\n", "\n")
        return bool(data)

    def expect(self, text: str, seconds: float = SECONDS) -> str:
        """Wait until a text is shown behind what was expected before; return what is between."""
        deadline = time.monotonic() + seconds
        while (found := self.seen.find(text, self.position)) < 0:
            if not self.read(deadline):
                raise EOFError(f"It ended without {text!r}: {self.seen!r}")
        before, self.position = self.seen[self.position : found], found + len(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self, expected: str) -> None:
        """Type Ctrl-C until a text is shown: between two waits, Python notes a signal and waits on."""
        for _ in range(6):
            self.type("\x03")
            with suppress(TimeoutError):
                self.expect(expected, 5)
                return
        raise TimeoutError(f"Not interrupted: {self.seen!r}")

    def end(self) -> int:
        """Wait for its end; return its status."""
        deadline = time.monotonic() + SECONDS
        while self.read(deadline):
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Give a function that begins a command in a terminal."""
    open_ones: list[Terminal] = []

    def begin(args: list[str], env: dict[str, str]) -> Terminal:
        open_ones.append(Terminal(args, env))
        return open_ones[-1]

    yield begin
    for each in open_ones:
        each.close()


# bupple_models


def test_models_are_listed(provider: Provider, configure: Configure) -> None:
    configure(echo={}, it=WIRE.settings(provider.url))
    provider.answer(models("b", "a\x1b[2J", "c"))
    assert call("bupple_models", "it") == ("b\na\ufffd[2J\nc\n", "")
    assert call("bupple_models") == ("echo\n", "")


def test_models_that_fail_are_one_line(provider: Provider) -> None:
    provider.answer(refused(f"Bad key {KEY}\x1b]0;x\x07"))
    done = run(["bupple_models"], environment(it=WIRE.settings(provider.url)))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "CommandError: Bad key …abcd\ufffd]0;x\ufffd (it, status 401) Check the entry's API_KEY.\n"
    )


def test_models_of_nobody_are_refused() -> None:
    with pytest.raises(CommandError, match="There is no driver 'nobody'"):
        call("bupple_models", "nobody")


# bupple_check


class Subject:
    """Stand for what a check is about."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __str__(self) -> str:
        return f"DRIVERS[{self.alias!r}]"


@pytest.fixture
def found(monkeypatch: Any) -> list[checks.CheckMessage]:
    """Give a list of what the system checks find, in place of what they would."""
    messages: list[checks.CheckMessage] = []

    def check(**kwargs: Any) -> list[checks.CheckMessage]:
        return messages

    check.tags = ["bupple_engine"]  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "registered_checks", {check})
    return messages


def test_all_is_well(found: list[checks.CheckMessage], configure: Configure) -> None:
    configure(echo={}, other={"DRIVER": "openai", "API_KEY": KEY, "MODEL": "m"})
    text, _ = call("bupple_check")
    assert text == "echo (default): echo\nother: openai, m\nNo errors, 0 warnings.\n"


def test_what_the_checks_find_is_told_by_driver(
    found: list[checks.CheckMessage], configure: Configure, settings: Any
) -> None:
    configure(echo={}, other={"DRIVER": "openia"})
    found += [
        checks.Warning("Odd.", hint="Do that.", id="bupple_engine.W099"),
        checks.Error("Bad.", obj=Subject("other"), id="bupple_engine.E099"),
        checks.Warning("Silent.", id="bupple_engine.W098"),
        checks.Warning("Of no driver.", obj=Subject("gone"), id="bupple_engine.W097"),
    ]
    settings.SILENCED_SYSTEM_CHECKS = ["bupple_engine.W098"]
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"^1 error$"):
        call_command("bupple_check", stdout=out, no_color=True)
    assert out.getvalue() == (
        "WARNING (bupple_engine.W099) Odd.\n  Do that.\n"
        "WARNING DRIVERS['gone']: (bupple_engine.W097) Of no driver.\n"
        "echo (default): echo\n"
        "other\n"
        "  ERROR DRIVERS['other']: (bupple_engine.E099) Bad.\n"
    )
    text, _ = call("bupple_check", "echo")
    assert "Bad" not in text
    assert text.endswith("No errors, 2 warnings.\n")


def test_the_real_checks_run(configure: Configure) -> None:
    configure(it={"DRIVER": "openai", "API_KEY": KEY, "MODEL": "m", "TEMPRATURE": 1})
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"^1 error$"):
        call_command("bupple_check", "--json", stdout=out)
    (driver,) = json.loads(out.getvalue())["drivers"]
    (error,) = [message for message in driver["messages"] if message["level"] == "ERROR"]
    assert "BUPPLE_ENGINE['DRIVERS']['it']" in error["address"]
    assert "TEMPRATURE" in error["message"]
    assert "TEMPERATURE" in error["hint"]


@pytest.mark.parametrize(
    "drivers", [{1: {}}, {"it": {"DRIVER": "tests.test_checks.Unmade"}}], ids=["alias", "driver"]
)
def test_settings_of_any_kind_are_told(drivers: Any, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DEFAULT": next(iter(drivers)), "DRIVERS": drivers}
    for options in ([], ["--json"]):
        with pytest.raises(CommandError, match=r"^\d errors?$"):
            call("bupple_check", *options)
    with pytest.raises(CommandError, match="There is no driver 'nobody'"):
        call("bupple_check", "nobody")


def test_a_vault_that_fails_is_told_in_a_line(configure: Configure) -> None:
    def ask() -> str:
        raise OSError("The vault is closed.")

    configure(it=WIRE.settings("http://127.0.0.1:9", API_KEY=ask))
    for command in (["bupple_models"], ["bupple_chat", "-m", "Hello"]):
        with pytest.raises(CommandError, match=r"^OSError: The vault is closed\.$"):
            call(*command)


def test_live_verdicts_are_told(
    found: list[checks.CheckMessage], provider: Provider, configure: Configure
) -> None:
    configure(
        it=WIRE.settings(provider.url),
        other=WIRE.settings(provider.url, MODEL="gone"),
        house={"DRIVER": "tests.test_probe.Silent"},
    )
    provider.answer(models(WIRE.model), repeat=True)
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"^1 error$"):
        call_command("bupple_check", "--live", stdout=out, no_color=True)
    lines = out.getvalue().splitlines()
    assert lines[1].startswith("  live: reachable, key accepted, model known, 0.")
    assert lines[3].startswith("  live: reachable, key accepted, model unknown, 0.")
    assert lines[4:6] == [
        "    The provider does not offer the model 'gone'.",
        "    Change MODEL: `manage.py bupple_models other` lists what there is.",
    ]
    assert lines[7] == "  live: nothing could be told"
    text, _ = call("bupple_check", "it", "--live")
    assert text.endswith("No errors, 0 warnings.\n")


def test_live_json_is_all_that_is_on_standard_output(provider: Provider) -> None:
    provider.answer(refused(f"Bad {KEY}"))
    entry = WIRE.settings(provider.url)
    done = run(["bupple_check", "--live", "--json", "--seconds", "20"], environment(it=entry, echo={}))
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "CommandError: 1 error\n")
    assert (report["ok"], report["errors"]) == (False, 1)
    first, second = report["drivers"]
    assert (first["alias"], first["default"], first["driver"]) == ("it", True, WIRE.name)
    assert (first["live"]["key_accepted"], first["live"]["error"]) == (False, "Bad …abcd (status 401)")
    assert second["live"]["ok"] is True
    assert KEY not in done.stdout + done.stderr


def test_a_check_ends_with_status_0_where_all_is_well() -> None:
    done = run(["bupple_check", "--live"], environment(echo={}))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nobody"], "no driver 'nobody'"),
        (["--seconds", "0"], "must be a number of more than 0"),
        (["--seconds", "x"], "must be a number of more than 0"),
    ],
)
def test_a_check_of_nonsense_is_refused(args: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call("bupple_check", *args)


@pytest.mark.parametrize("value", [None, "claude", {"DRIVERS": []}])
def test_a_check_reports_where_the_settings_are_no_settings(value: Any, settings: Any) -> None:
    settings.BUPPLE_ENGINE = value
    with pytest.raises(CommandError, match="^1 error$" if value else "no driver to ask"):
        call("bupple_check", "--live")
    with pytest.raises(CommandError):
        call("bupple_chat", "-m", "hi")


# bupple_chat, one message


def test_an_answer_is_all_that_is_on_standard_output(provider: Provider) -> None:
    provider.answer(said("Grüße,", " 🦜\x1b[0m"), said("ends\n"), said("cut", finish="length"))
    env = environment(echo={}, it=WIRE.settings(provider.url))
    done = run(["bupple_chat", "it", "-m", "Hi", "--system", "Be brief.", "--model", "other"], env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Grüße, 🦜\x1b[0m\n", "")
    asked = provider.requests[0]
    assert WIRE.prompt(asked) == [("system", "Be brief."), ("user", "Hi")]
    assert WIRE.model_asked(asked) == "other"
    done = run(["bupple_chat", "it"], env, typed="From\na file\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")
    assert WIRE.prompt(provider.requests[1]) == [("user", "From\na file\n")]
    done = run(["bupple_chat", "it", "-m", "Hi"], env)
    assert (done.returncode, done.stdout) == (0, "cut\n")
    assert done.stderr == "\n[finish reason: length]\n"


def test_reasoning_is_not_on_standard_output(provider: Provider, configure: Configure) -> None:
    wire = WIRES[2]
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(headers=EVENTS, body=wire.stream(["yes"], reasoning=["hm"])))
    assert call("bupple_chat", "-m", "Hi") == ("yes\n", "")


def test_an_error_ends_with_status_1_and_what_had_come(provider: Provider) -> None:
    provider.answer(Answer(headers=EVENTS, body=WIRE.stream_error(["half"], "server")))
    done = run(["bupple_chat", "-m", "Hi"], environment(it=WIRE.settings(provider.url)))
    assert (done.returncode, done.stdout) == (1, "half\n")
    assert done.stderr.startswith("CommandError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "typed", "words"),
    [
        (["-m", " "], None, "There is no message"),
        ([], "", "There is no message"),
        (["nobody", "-m", "x"], None, "no driver 'nobody'"),
        (["claude", "-m", "x"], None, "claude needs 'API_KEY'"),
        (["-m", "x", "--model", ""], None, "model must be a string"),
    ],
)
def test_what_cannot_be_asked_ends_with_status_1(args: list[str], typed: str | None, words: str) -> None:
    done = run(["bupple_chat", *args], environment(echo={}, claude={}), typed)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.startswith("CommandError: ")
    assert done.stderr.count("\n") == 1


def test_a_closed_standard_input_is_no_message() -> None:
    command = [sys.executable, "-m", "django", "bupple_chat"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command],
        env=environment(echo={}),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert done.stderr == "CommandError: There is no message: give one with -m, or on standard input.\n"


def test_bytes_that_are_no_text_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", "bupple_chat"],
        env=environment(echo={}),
        input=b"\xff\xfe\x00",
        capture_output=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"CommandError: Standard input is not text.\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "django", "bupple_chat", "-m", "word " * 100],
        env=environment(slow={"DRIVER": "echo", "DELAY": 0.05}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"word"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 1


# bupple_chat, a conversation


def test_a_conversation_streams_and_keeps_its_history(
    provider: Provider, terminal: Callable[..., Terminal]
) -> None:
    begun, more = WIRE.stream_without_end(["Hello"]), threading.Event()
    rest = WIRE.stream(["Hello", " Ada"]).removeprefix(begun)
    provider.answer(Answer(headers=EVENTS, pieces=[begun, more, rest]), said("You are Ada\x1b]0;title\x07"))
    chat = terminal(["bupple_chat", "--system", "Be brief."], environment(it=WIRE.settings(provider.url)))
    chat.expect(f"it: {WIRE.name}, {WIRE.model}\n")
    chat.expect("\n> ")
    chat.type("I am Ada.\n")
    chat.expect("\nHello")  # before the rest has come
    more.set()
    assert chat.expect("> ") == " Ada\n"
    chat.type("Who am I?\n")
    chat.expect("You are Ada\ufffd]0;title\ufffd\n")
    chat.expect("> ")
    chat.type("\n  \n\x04")  # what is blank is no question
    assert chat.end() == 0
    assert [WIRE.prompt(request) for request in provider.requests] == [
        [("system", "Be brief."), ("user", "I am Ada.")],
        [("system", "Be brief."), ("user", "I am Ada."), ("assistant", "Hello Ada"), ("user", "Who am I?")],
    ]


def test_a_command_is_not_sent_to_the_model(provider: Provider, terminal: Callable[..., Terminal]) -> None:
    provider.answer(said("It is a folder."))
    chat = terminal(["bupple_chat"], environment(it=WIRE.settings(provider.url)))
    for typed in ("/help", "/quit", "/model other", "/?"):
        chat.expect("> ")
        chat.type(f"{typed}\n")
        chat.expect("There are no commands")
    chat.expect("> ")
    chat.type("/etc/hosts is what?\n")
    chat.expect("It is a folder.\n> ")
    chat.type("\x04")
    assert chat.end() == 0
    assert [WIRE.prompt(request) for request in provider.requests] == [[("user", "/etc/hosts is what?")]]


def test_ctrl_c_stops_the_answer_and_not_the_program(
    provider: Provider, terminal: Callable[..., Terminal]
) -> None:
    provider.answer(
        Answer(headers=EVENTS, pieces=[WIRE.stream_without_end(["Once upon"]), 60.0]),
        said("A time."),
        Answer(hold=60),
        said("Yes."),
    )
    chat = terminal(["bupple_chat"], environment(it=WIRE.settings(provider.url)))
    chat.expect("\n> ")
    chat.type("Tell a tale.\n")
    chat.expect("Once upon")
    chat.interrupt("[stopped; what was said stays in the conversation]\n> ")
    provider.wait_closed()
    chat.type("half a question")
    chat.expect("half a question")
    chat.interrupt("\n> ")
    chat.type("Upon what?\n")
    chat.expect("A time.\n> ")
    chat.type("And?\n")
    until_requests(provider, 3)
    chat.interrupt("[stopped; the question is not kept]\n> ")
    chat.type("Well?\n")
    chat.expect("Yes.\n> ")
    chat.type("\x04")
    assert chat.end() == 0
    assert WIRE.prompt(provider.requests[-1]) == [
        ("user", "Tell a tale."),
        ("assistant", "Once upon"),
        ("user", "Upon what?"),
        ("assistant", "A time."),
        ("user", "Well?"),
    ]


def until_requests(provider: Provider, number: int) -> None:
    until(lambda: len(provider.requests) == number, SECONDS)


def test_a_question_may_have_many_lines(provider: Provider, terminal: Callable[..., Terminal]) -> None:
    provider.answer(said("1."), said("2."), said("3."))
    chat = terminal(["bupple_chat"], environment(it=WIRE.settings(provider.url)))
    chat.expect("\n> ")
    for typed in ("one \\\n", "two\\\n"):
        chat.type(typed)
        chat.expect("… ")
    chat.type("three\n")
    chat.expect("1.\n> ")
    for typed in ('"""\n', "a\n", "\n", "b\\\n"):
        chat.type(typed)
        chat.expect("… ")
    chat.type('"""\n')
    chat.expect("2.\n> ")
    for typed in ('"""\n', "dropped\n"):
        chat.type(typed)
        chat.expect("… ")
    chat.interrupt("\n> ")
    chat.type("last\n")
    chat.expect("3.\n> ")
    chat.type("\x04")
    assert chat.end() == 0
    asked = [WIRE.prompt(request)[-1][1] for request in provider.requests]
    assert asked == ["one \ntwo\nthree", "a\n\nb\\", "last"]


def test_an_error_does_not_end_a_conversation(provider: Provider, terminal: Callable[..., Terminal]) -> None:
    provider.answer(
        refused(f"Bad {KEY}"),
        Answer(headers=EVENTS, body=WIRE.stream_error(["half"], "server")),
        said("whole"),
    )
    chat = terminal(["bupple_chat"], environment(it=WIRE.settings(provider.url)))
    chat.expect("\n> ")
    chat.type("1\n")
    chat.expect("[Bad …abcd (it, status 401) Check the entry's API_KEY.; the question is not kept]\n> ")
    chat.type("2\n")
    chat.expect("half\n[")
    chat.expect("; what was said stays in the conversation]\n> ")
    chat.type("3\n")
    chat.expect("whole\n> ")
    chat.type("\x04")
    assert chat.end() == 0
    assert WIRE.prompt(provider.requests[-1]) == [("user", "2"), ("assistant", "half"), ("user", "3")]
    assert KEY not in chat.seen


def test_reasoning_is_shown_before_the_answer(provider: Provider, terminal: Callable[..., Terminal]) -> None:
    wire = WIRES[2]
    provider.answer(Answer(headers=EVENTS, body=wire.stream(["Yes."], reasoning=["Let me", " think"])))
    chat = terminal(["bupple_chat", "--no-color"], environment(it=wire.settings(provider.url)))
    chat.expect("\n> ")
    chat.type("Hm?\n")
    chat.expect("Let me think\n\nYes.\n> ")
    chat.type("\x04")
    assert chat.end() == 0


def test_ctrl_c_ends_a_single_answer(terminal: Callable[..., Terminal]) -> None:
    env = environment(slow={"DRIVER": "echo", "DELAY": 0.05})
    chat = terminal(["bupple_chat", "-m", "word " * 1000], env)
    chat.expect("word word")
    chat.type("\x03")  # heard at the next word at the latest
    assert chat.end() == 130
    assert "Traceback" not in chat.seen


@pytest.mark.skipif(bool(local.find_missing()), reason=str(local.find_missing()))
def test_the_local_model_talks(terminal: Callable[..., Terminal]) -> None:
    env = environment(local={"CONTEXT_TOKENS": 512, "MAX_TOKENS": 400, "EXTRA": {"ignore_eos": True}})
    chat = terminal(["bupple_chat"], env)
    chat.expect("local: local, SmolLM2")
    chat.expect("\n> ")
    chat.type("Say the word blue.\n")
    chat.expect("blue.\n")
    chat.expect("e")
    chat.interrupt("[stopped; what was said stays in the conversation]\n> ")
    chat.type("\x04")
    assert chat.end() == 0


def test_ctrl_c_reaches_the_commands_that_a_background_job_tests() -> None:
    """A script's background jobs ignore it, and whatever they start inherits that."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "import tests.conftest; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "True"
