"""The admin page: every driver, what the checks say of it, a live probe, and a box to try it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.cache import cache
from django.core.checks import ERROR, CheckMessage, Error, run_checks
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, JsonResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from . import __version__, conf
from .drivers.base import ChatDriver
from .drivers.http import HTTPDriver
from .drivers.local import LocalDriver, model_path
from .exceptions import EngineError
from .masking import mask_url
from .models import Configuration
from .probe import Verdict, probe_all
from .registry import ai, get_driver
from .sse import encode
from .transports import has_aiohttp
from .types import Chunk, Message

logger = logging.getLogger("bupple_engine")

PROBE_SECONDS = 10
VERDICT_SECONDS = 7 * 86_400  # how long the cache keeps a verdict
MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True)
class Extra:
    """An extra that a driver makes use of, or can't do without."""

    name: str
    is_ready: bool
    is_required: bool = False


@dataclass
class Row:
    """One driver as the page shows it; mistake is why its entry can't be made into one."""

    alias: str
    is_default: bool = False
    messages: list[CheckMessage] = field(default_factory=list)
    mistake: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    base_url: str = ""
    extras: list[Extra] = field(default_factory=list)
    verdict: Verdict | None = None

    def read(self) -> None:
        """Fill in what the driver says of itself."""
        try:
            driver = get_driver(self.alias)
            self.config, self.base_url, self.extras = driver.get_config(), _base_url(driver), _extras(driver)
        except ImproperlyConfigured as error:
            self.mistake = str(error)
        except Exception as error:  # a driver of the site's own may raise anything
            logger.exception("The driver %r can't be made", self.alias)
            self.mistake = gettext("The driver raises %(error)s; the server's log says where.") % {
                "error": type(error).__name__
            }

    @property
    def cache_key(self) -> str:
        """Bind the verdict to the entry as it is now: one on another model or key says nothing of it."""
        facts = json.dumps([__version__, self.alias, self.config, self.base_url], default=str)
        return f"bupple_engine.verdict.{hashlib.sha256(facts.encode()).hexdigest()}"

    @property
    def facts(self) -> list[tuple[str, bool | None]]:
        """Return what the probe asked and found; nothing where it could ask nothing."""
        verdict = self.verdict
        if verdict is None or verdict.reachable is None:
            return []
        facts: list[tuple[str, bool | None]] = [(gettext("reachable"), verdict.reachable)]
        if verdict.reachable and (self.config.get("api_key") or verdict.key_accepted is not None):
            facts.append((gettext("key accepted"), verdict.key_accepted))
        if verdict.reachable:
            facts.append((gettext("model known"), verdict.model_known))
        return facts

    @property
    def verdict_says_more(self) -> bool:
        """Whether the verdict has words that are not the mistake's."""
        words = self.verdict and (self.verdict.error or self.verdict.advice)
        return bool(words) and words != self.mistake

    @property
    def age(self) -> str:
        """Say how old the verdict is."""
        if self.verdict is None:
            return ""
        if datetime.now(UTC) - self.verdict.checked_at < timedelta(minutes=1):
            return gettext("just now")
        return gettext("%(age)s ago") % {"age": timesince(self.verdict.checked_at)}

    @property
    def untold_mistake(self) -> str:
        """The mistake, unless the checks have said it."""
        return "" if _told(self.mistake, self.messages) else self.mistake


def _base_url(driver: ChatDriver) -> str:
    """Return where requests go, by the entry or by the driver's own default; masked."""
    if not isinstance(driver, HTTPDriver) or "base_url" not in driver.known_options:
        return ""
    chosen = driver.config.get("base_url")
    return repr(chosen) if chosen else mask_url(driver.wire.base_url(driver.config))


def _extras(driver: ChatDriver) -> list[Extra]:
    if not isinstance(driver, HTTPDriver):
        return []
    speed = Extra("speed", find_spec("orjson") is not None)
    if not isinstance(driver, LocalDriver):
        return [Extra("async", has_aiohttp()), speed]
    try:
        model_path(driver.config)
    except ImproperlyConfigured:
        return [Extra("local", False, is_required=True), speed]
    return [Extra("local", True), speed]


def read_rows() -> list[Row]:
    """Return a row for each entry of DRIVERS, with the verdict that the cache keeps."""
    rows: dict[Any, Row] = {alias: Row(alias) for alias, _entry in conf.entries()}
    with suppress(ImproperlyConfigured):
        rows[conf.default_alias()].is_default = True
    for row in rows.values():
        row.read()
    kept = cache.get_many([row.cache_key for row in rows.values()])
    for row in rows.values():
        if row.cache_key in kept:
            row.verdict = Verdict.from_dict(kept[row.cache_key])
    return list(rows.values())


def run_checks_on(rows: list[Row]) -> list[CheckMessage]:
    """Give each row what the checks say of it, and return what they say of no single one.

    With DEBUG off, what `check --deploy` says is among it.
    """
    by_alias: dict[Any, Row] = {row.alias: row for row in rows}
    general: list[CheckMessage] = []
    for message in run_checks(tags=["bupple_engine"], include_deployment_checks=not settings.DEBUG):
        if not message.is_silenced():
            row = by_alias.get(getattr(message.obj, "alias", None))
            (row.messages if row else general).append(message)
    try:
        conf.default_alias()
    except ImproperlyConfigured as error:
        if not _told(str(error), general):
            general.append(Error(str(error)))
    return general


def _told(mistake: str, found: list[CheckMessage]) -> bool:
    """Tell whether the checks, some of which a site may silence, have said what is wrong."""
    return any(message.level >= ERROR or str(message.msg).lower() in mistake.lower() for message in found)


class TryForm(forms.Form):
    """One short message to one driver."""

    message = forms.CharField(
        label=_("Message"),
        max_length=MESSAGE_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 2}),
        initial=_("Say hello in one sentence."),
    )

    def __init__(self, rows: list[Row], data: QueryDict | None = None) -> None:
        super().__init__(data, auto_id="try_%s")
        self.fields["driver"] = forms.ChoiceField(
            label=_("Driver"),
            choices=[(row.alias, row.alias) for row in rows if not row.mistake],
            initial=next((row.alias for row in rows if row.is_default), None),
        )


@admin.register(Configuration)
class ConfigurationAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # Django 5.2 takes none at run time
    """Show the configuration; register it with an AdminSite of your own as any ModelAdmin."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Configuration | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Configuration | None = None) -> bool:
        return False

    def has_probe_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may send requests to the providers; who may not see the page may not."""
        may = request.user.has_perm("bupple_engine.probe_configuration")
        return may and self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "bupple_engine_configuration"
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            path("probe/", view(self.probe_view), name=f"{name}_probe"),
            path("try/", view(self.try_view), name=f"{name}_try"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show the page; nothing leaves this machine."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = read_rows()
        context = {"general": run_checks_on(rows), **(extra_context or {})}
        return self._render(request, "configuration.html", rows, context)

    def probe_view(self, request: HttpRequest) -> HttpResponseBase:
        """Probe the drivers that are named by `alias`, all where none is, and show or keep the verdicts."""
        if not self.has_probe_permission(request):
            raise PermissionDenied
        page = reverse("admin:bupple_engine_configuration_changelist", current_app=self.admin_site.name)
        if request.method != "POST":  # as after a login that the POST was sent to
            return redirect(page)
        rows = read_rows()
        asked = request.POST.getlist("alias") or [row.alias for row in rows]
        probed = {row.alias: row for row in rows if row.alias in asked}
        verdicts = probe_all(list(probed), seconds=PROBE_SECONDS)
        for verdict in verdicts:
            probed[verdict.alias].verdict = verdict
        kept = {row.cache_key: row.verdict.as_dict() for row in probed.values() if row.verdict}
        cache.set_many(kept, VERDICT_SECONDS)
        failed = [verdict.alias for verdict in verdicts if not verdict.ok]
        summary = ngettext("%d driver checked.", "%d drivers checked.", len(verdicts)) % len(verdicts)
        if failed:
            summary += " " + gettext("Not ready: %s.") % ", ".join(map(str, failed))
        if "fetch" in request.headers.get("X-Requested-With", ""):
            run_checks_on(rows)
            return self._render(request, "drivers.html", rows, {"summary": summary})
        self.message_user(
            request, summary, messages.WARNING if failed else messages.SUCCESS, fail_silently=True
        )
        return redirect(page)

    def try_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream one driver's answer to one message."""
        if not self.has_probe_permission(request):
            raise PermissionDenied
        form = TryForm(read_rows(), request.POST)
        if not form.is_valid():
            words = [f"{form[name].label}: {word}" for name, found in form.errors.items() for word in found]
            return JsonResponse({"message": " ".join(words)}, status=400)
        message = Message(role="user", content=form.cleaned_data["message"])
        return event_response(request, form.cleaned_data["driver"], [message])

    def _render(
        self, request: HttpRequest, template: str, rows: list[Row], context: dict[str, Any]
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("AI engine"),
            "opts": self.opts,
            "rows": rows,
            "may_probe": self.has_probe_permission(request),
            "form": TryForm(rows),
            **context,
        }
        return TemplateResponse(request, f"admin/bupple_engine/{template}", context)


def event_response(request: HttpRequest, alias: str, messages: list[Message]) -> StreamingHttpResponse:
    """Return a response of server-sent events, one a chunk; a failure is the event `error`."""
    # A sync stream is read whole before its first byte leaves ASGI, and an async one under WSGI.
    asynchronous = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(
        _aevents(alias, messages) if asynchronous else _events(alias, messages),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
    )


def _events(alias: str, messages: list[Message]) -> Iterator[bytes]:
    try:
        with ai(alias).stream(messages) as chunks:
            for chunk in chunks:
                yield _encode(chunk)
    except (EngineError, ImproperlyConfigured) as error:
        yield encode(json.dumps({"message": str(error)}), event="error")


async def _aevents(alias: str, messages: list[Message]) -> AsyncIterator[bytes]:
    try:
        async with ai(alias).astream(messages) as chunks:
            async for chunk in chunks:
                yield _encode(chunk)
    except (EngineError, ImproperlyConfigured) as error:
        yield encode(json.dumps({"message": str(error)}), event="error")


def _encode(chunk: Chunk) -> bytes:
    return encode(json.dumps({name: value for name, value in chunk.items() if name != "metadata"}))
