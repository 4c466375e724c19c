"""The site that the tests run in: everything Django brings, DRF, and this app."""

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "bupple_engine",
    "bupple_engine.conversations",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}
