"""A site with this app alone: no admin, no users, no sessions, no database."""

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["bupple_engine"]
BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}
