"""A chat page for who is signed in; what it asks, the HTTP API of bupple_engine answers."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.crypto import get_random_string
from django.views.decorators.http import require_GET, require_POST

from bupple_engine import ai


def self_contained(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Have a page load and run nothing that is not a file of this site."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = "default-src 'self'; base-uri 'none'; form-action 'self'"
        return response

    return wrapped


@self_contained
@login_required
@require_GET
def chat(request: HttpRequest) -> HttpResponse:
    """Show the chat."""
    config = ai().get_config()
    engine_missing = config["driver"] == "echo" and not settings.LOCAL_ENGINE_INSTALLED
    return render(request, "example_project/chat.html", {"config": config, "engine_missing": engine_missing})


sign_in = self_contained(
    LoginView.as_view(
        template_name="example_project/login.html",
        redirect_authenticated_user=True,
        extra_context={"visitors": settings.DEBUG},
    )
)


@require_POST
def visit(request: HttpRequest) -> HttpResponse:
    """Sign a visitor in to an account of their own, without a password; on a developer's machine alone."""
    if not settings.DEBUG:
        raise Http404
    user = get_user_model().objects.create_user(f"visitor-{get_random_string(6).lower()}")
    login(request, user)
    return redirect("chat")
