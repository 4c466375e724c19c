"""Django's own middleware and more, a database that is a file, streams in every way; by the environment."""

import os
from typing import Any

SECRET_KEY = "tests"
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    *(["daphne"] if os.environ.get("SITE_DAPHNE") else []),  # whose runserver is an ASGI server
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    "bupple_engine",
]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tests.site.views.VisitsMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "tests.site.database",
        "NAME": os.environ["SITE_DATABASE"],
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {"timeout": 60, "init_command": "PRAGMA synchronous=OFF"},
    }
}
ROOT_URLCONF = "tests.site.urls"
ASGI_APPLICATION = "tests.site.asgi.application"
WSGI_APPLICATION = "tests.site.wsgi.application"
LOGGING_CONFIG = None
BUPPLE_ENGINE: dict[str, Any] = {
    "DEFAULT": "chat",
    "DRIVERS": {
        "chat": {
            "DRIVER": "openai_chat",
            "API_KEY": "sk-test-0123456789abcd",
            "MODEL": "m",
            "BASE_URL": os.environ["SITE_PROVIDER"],
            "MAX_RETRIES": 0,
        }
    },
    "API": {
        "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
        "THROTTLE_RATES": {"anon": None},
        "MAX_CONCURRENT_STREAMS": {"user": None},
        "SHUTDOWN_SECONDS": 0.1,
    },
}
