"""The admin page: every driver, what the checks say of it, a live probe, and a box to try it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .diagnostics.overview import Row, keep_verdicts, read_rows, report_crash, run_checks_on
from .diagnostics.probe import probe_all
from .exceptions import EngineError
from .http import EventStream, Problem, stream_response
from .models import Configuration
from .types import Message

PROBE_SECONDS = 10
MESSAGE_CHARACTERS = 2000


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
            choices=[(row.label, row.label) for row in rows if not row.mistake],
            initial=next((row.label for row in rows if row.is_default), None),
        )


class StaffEventStream(EventStream):
    """The native event stream, with errors in the words that the log has: those who see them mend them."""

    def report(self, error: BaseException) -> Problem:
        return replace(super().report(error), message=str(error))


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
        """Return whether the user may send requests to the providers; who may not see the page may not."""
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
        if request.method != "POST":
            return self._redirect()
        rows = read_rows()
        asked = request.POST.getlist("alias") or [row.label for row in rows]
        probed = {row.alias: row for row in rows if row.label in asked}
        verdicts = probe_all(list(probed), seconds=PROBE_SECONDS)
        for row, verdict in zip(probed.values(), verdicts, strict=True):
            row.verdict = verdict
        keep_verdicts(list(probed.values()))
        failed = [row.label for row in probed.values() if row.verdict and not row.verdict.ok]
        summary = ngettext("%d driver checked.", "%d drivers checked.", len(verdicts)) % len(verdicts)
        if failed:
            summary += " " + gettext("Not ready: %s.") % ", ".join(failed)
        if request.headers.get("X-Requested-With") == "fetch":
            run_checks_on(rows)
            return self._render(request, "drivers.html", rows, {"summary": summary})
        self.message_user(
            request, summary, messages.WARNING if failed else messages.SUCCESS, fail_silently=True
        )
        return self._redirect()

    def try_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream one driver's answer to one message."""
        if not self.has_probe_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._redirect()
        rows = read_rows()
        form = TryForm(rows, request.POST)
        if not form.is_valid():
            words = [f"{form[name].label}: {word}" for name, found in form.errors.items() for word in found]
            return JsonResponse({"error": {"message": " ".join(words)}}, status=400)
        asked: list[Message] = [{"role": "user", "content": form.cleaned_data["message"]}]
        driver = next(row.alias for row in rows if row.label == form.cleaned_data["driver"])
        try:
            return stream_response(request, messages=asked, driver=driver, dialect=StaffEventStream())
        except (EngineError, ImproperlyConfigured) as error:
            said = str(error)
        except Exception as error:  # of a driver of the site's own, or of the callable that gives the key
            said = report_crash(driver, error)
        return JsonResponse({"error": {"message": said}}, status=500)

    def _redirect(self) -> HttpResponseRedirect:
        """Go to the page, as also after a login that a POST had been sent to."""
        name = "admin:bupple_engine_configuration_changelist"
        return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))

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
