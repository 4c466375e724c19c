"""The HTTP API: path("ai/", include("bupple_engine.urls"))."""

from django.apps import apps
from django.urls import URLPattern, path, re_path

from .api import views
from .api.base import EngineView

if apps.is_installed("drf_spectacular"):
    from .api import schema  # noqa: F401  # what it says of the views

app_name = "bupple_engine"


def _both(route: str, view: type[EngineView], name: str) -> list[URLPattern]:
    """Return the patterns of a view, with a slash at its end and without; the name is that of the route."""
    other = route.removesuffix("/") if route.endswith("/") else f"{route}/"
    return [path(route, view.as_view(), name=name), path(other, view.as_view(schema=None))]


urlpatterns = [
    *_both("chat/", views.ChatView, "chat"),
    *_both("chat/stream/", views.ChatStreamView, "chat-stream"),
    # Without a slash at the end: so the clients of these APIs spell them.
    *_both("v1/chat/completions", views.CompletionsView, "completions"),
    *_both("v1/models", views.ModelListView, "models"),
    path("v1/models/<path:name>", views.ModelView.as_view(), name="model"),
    re_path(r"^v1(?:/(?P<path>.*))?$", views.UnknownView.as_view()),
    # What a client asks for whose base URL lacks the v1; its other paths may be the site's own.
    re_path(r"^(?P<path>chat/completions)/?$", views.LostView.as_view()),
    *_both("ui/chat/", views.UIChatView, "ui-chat"),
    # The SDK puts a slash behind the path that it has, which ends with one.
    re_path(r"^ui/chat/(?P<chat>.+)/stream/?$", views.UIResumeView.as_view()),
    *_both("drivers/", views.DriverListView, "drivers"),
]
