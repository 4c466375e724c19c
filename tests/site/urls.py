"""A stream from a view of each kind, from the API, and what the process has open."""

from django.urls import include, path

from . import views

urlpatterns = [
    path("async/", views.from_async_view),
    path("sync/", views.from_sync_view),
    path("atomic/", views.from_atomic_view),
    path("ai/", include("bupple_engine.urls")),
    path("state/", views.state),
]
