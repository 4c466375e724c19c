"""The chat page, who may see it, and the HTTP API that answers it."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.chat, name="chat"),
    path("login/", views.sign_in, name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("visit/", views.visit, name="visit"),
    path("ai/", include("bupple_engine.urls")),
    path("admin/", admin.site.urls),
]
