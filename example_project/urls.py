"""The chat page and the two views that it streams from."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("", views.chat, name="chat"),
    path("stream/", views.stream, name="stream"),
    path("astream/", views.astream, name="astream"),
    path("admin/", admin.site.urls),
]
