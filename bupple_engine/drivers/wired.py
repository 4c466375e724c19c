"""HTTPDriver: a wire, an exchange and a transport, joined for each call."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from functools import cache, cached_property
from typing import TYPE_CHECKING, Self

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured

from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.seams import CLOCK, random
from bupple_engine.exceptions import EngineError
from bupple_engine.exchange.exchange import Exchange
from bupple_engine.exchange.flow import flow_of
from bupple_engine.exchange.pages import Listing
from bupple_engine.exchange.wishes import Flow
from bupple_engine.masking import mask_url
from bupple_engine.protocol.answer import reply_of
from bupple_engine.protocol.options import (
    Clocks,
    EntryOptions,
    Limits,
    Option,
    Options,
    clocks,
    limits,
    protect,
)
from bupple_engine.protocol.reading import read_option
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.values import unfit
from bupple_engine.transports import Pooled, has_aiohttp, transport_in_place
from bupple_engine.transports.shells import acarry_out
from bupple_engine.types import Reply
from bupple_engine.wires.base import Wire
from bupple_engine.wires.parser import Parser

from . import extras
from .base import ChatDriver
from .probing import Findings, ask_provider

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

logger = logging.getLogger("bupple_engine")


class HTTPDriver(ChatDriver):
    """A provider spoken to over HTTP; all that is the provider's own is in its wire."""

    def __init__(self, alias: str, name: str, config: Options, wire: Wire) -> None:
        super().__init__(alias, name, EntryOptions(config))
        self.wire = wire
        self.required = wire.required
        self.models_need_key = wire.models_need_key

    @cached_property
    def _clocks(self) -> Clocks:
        return clocks(self.config)

    @cached_property
    def _limits(self) -> Limits:
        return limits(self.config)

    @property
    def known_options(self) -> Mapping[str, Option]:
        return self.wire.options

    def replace(self, config: Options) -> Self:
        return type(self)(self.alias, self.name, config, self.wire)

    def models(self) -> list[str]:
        call = self._begin_listing()
        listing = Listing(self.wire, call.options)
        while not listing.finished:
            call = self._turn_page(listing, call)
            for _ in self._batches(call):
                pass
        return listing.models

    async def amodels(self) -> list[str]:
        call = await sync_to_async(self._begin_listing)()  # the key may have to be asked for
        listing = Listing(self.wire, call.options)
        while not listing.finished:
            call = self._turn_page(listing, call)
            async with aclosing(self._abatches(call)) as batches:
                async for _ in batches:
                    pass
        return listing.models

    def offers(self, model: str, models: list[str]) -> bool | None:
        return self.wire.offers(model, models)

    def endpoint(self) -> str:
        chosen = self.config.get("base_url")
        if chosen:
            return repr(chosen)
        # Where the entry must say it, the wire's own is a pattern for who writes the entry.
        return "" if "base_url" in self.required else mask_url(self.wire.base_url(self.config))

    def requirements(self) -> list[extras.Requirement]:
        return [extras.Requirement("async", has_aiohttp()), extras.speed()]

    def probe(self, seconds: float) -> Findings:
        return ask_provider(self, seconds)

    def knock(self) -> None:
        """Send an empty object to where messages go, which is no message; raise what the provider says of it.

        An InvalidRequestError of status 400 or 422 means that the API is there.
        """
        call = self._make_call(self.config)
        self._check_entry(call, self.wire.required)
        path = self.wire.build_path(call.options, False)
        request = self.wire.address(path, call.options, False).replace(body=b"{}")
        call.exchange = self._exchange(self.wire, request, call)
        for _ in self._batches(call):
            pass

    def _begin_listing(self) -> RunningCall:
        call = self._make_call(self.config)
        self._check_entry(call, [name for name in self.wire.required if name != "model"])
        return call

    def _turn_page(self, listing: Listing, before: RunningCall) -> RunningCall:
        """Return the call for the next page, under the clock of the first."""
        call = self._make_call(before.options)
        call.transport = before.transport
        call.exchange = self._exchange(listing, listing.build_page(), call)
        if before.exchange is not None:
            call.exchange.started = before.exchange.started
        return call

    def check(self) -> Iterable[CheckMessage]:
        return self.wire.check(self.config)

    def _prepare(self, call: RunningCall) -> None:
        self._check_entry(call, self.wire.required)
        request = self.wire.build_request(call.turns, call.options, call.streamed)
        call.exchange = self._exchange(self.wire, request, call)

    def _exchange(self, wire: Parser, request: Request, call: RunningCall) -> Exchange:
        return Exchange(
            wire,
            request,
            alias=self.label,
            model=call.options.get("model") or "",
            clocks=self._clocks if call.options is self.config else clocks(call.options),
            max_retries=call.options["max_retries"],
            clock=CLOCK.get(),
            chance=random,
            limits=self._limits if call.options is self.config else limits(call.options),
            call=call.value,
        )

    def _check_entry(self, call: RunningCall, required: Iterable[str]) -> None:
        """Raise what the entry lacks, and ask for the key."""
        call.transport = transport_in_place()
        if defaults := getattr(call.transport, "defaults", None):
            call.options = {**self._read_defaults(defaults), **call.options}
        options = call.options
        for name in required:
            if not options.get(name):
                line = "`manage.py check` has the line to write."
                if name == "base_url":
                    line = f'Write "BASE_URL": "{self.wire.base_url(options)}"'
                words = f"{self.name} needs {name.upper()!r}; add it. {line}"
                raise ImproperlyConfigured(f"BUPPLE_ENGINE['DRIVERS'][{self.label!r}]: {words}")
        if options is self.config and not self._asks_for_key:
            return
        if (key := options.get("api_key")) and not key.is_fixed:  # a fixed one was looked at where it was set
            options = call.options = {**options, "api_key": key.ask()}
            if wrong := unfit(options["api_key"].reveal()):
                raise ImproperlyConfigured(f"BUPPLE_ENGINE['DRIVERS'][{self.label!r}]['API_KEY'] {wrong}.")

    def _read_defaults(self, defaults: Mapping[str, object]) -> Options:
        """Return what a transport that is put in place gives to entries that lack it."""
        found: Options = {}
        for name, value in protect(defaults).items():
            if name in self.known_options:
                found[name], wrong = read_option(name, self.known_options[name], value)
                if wrong:
                    raise ImproperlyConfigured(f"The transport's defaults[{name!r}] {wrong}.")
        return found

    def _flow(self, call: RunningCall) -> Flow:
        return flow_of(lambda: (_prepared(call), self._transport(call)))

    def _can_await(self, call: RunningCall) -> bool:
        if call.transport is not None:
            return hasattr(call.transport, "aopen")
        if not has_aiohttp():
            _warn_of_threads()
            return False
        return True

    def _reply(self, call: RunningCall) -> Reply:
        for _ in call.watch(self._batches(call)):
            pass
        return self._fold(call)

    async def _areply(self, call: RunningCall) -> Reply:
        if not self._can_await(call):
            return await super()._areply(call)
        batches = call.awatch(acarry_out(self._flow(call), call))
        try:
            async for _ in batches:
                pass
        finally:
            await batches.aclose()
        return self._fold(call)

    def _fold(self, call: RunningCall) -> Reply:
        exchange = _prepared(call)
        if exchange.last is None:
            raise EngineError("The call was cancelled.")
        return reply_of(exchange.answer, exchange.last)

    def _transport(self, call: RunningCall) -> object:
        """Return what the call's requests are opened on."""
        return call.transport if call.transport is not None else Pooled(call.options)


def _prepared(call: RunningCall) -> Exchange:
    if call.exchange is None:
        raise RuntimeError("The call was not prepared.")
    return call.exchange


@cache
def _warn_of_threads() -> None:
    """Say once a process that asynchronous calls run in threads."""
    logger.warning(
        "aiohttp is not installed: asynchronous calls run in threads, one a stream. Install the extra: %s",
        extras.command("async"),
    )
