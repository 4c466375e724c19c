"""The HTTP API: path("ai/", include("bupple_engine.urls"))."""

from django.apps import apps
from django.urls import path

from .api import views

if apps.is_installed("drf_spectacular"):
    from .api import schema  # noqa: F401  # what it says of the views

app_name = "bupple_engine"

urlpatterns = [
    path("chat/", views.ChatView.as_view(), name="chat"),
    path("chat/stream/", views.ChatStreamView.as_view(), name="chat-stream"),
    # Without a slash at the end: so the clients of these APIs spell them.
    path("v1/chat/completions", views.CompletionsView.as_view(), name="completions"),
    path("v1/models", views.ModelListView.as_view(), name="models"),
    path("v1/models/<path:name>", views.ModelView.as_view(), name="model"),
    path("ui/chat/", views.UIChatView.as_view(), name="ui-chat"),
    path("drivers/", views.DriverListView.as_view(), name="drivers"),
]
