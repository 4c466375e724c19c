"""The same site for clients with a token of DRF's: `Authorization: Bearer …`."""

from .settings import *  # noqa: F403
from .settings import BUPPLE_ENGINE, INSTALLED_APPS

INSTALLED_APPS += ["rest_framework.authtoken"]
BUPPLE_ENGINE["DRIVERS"]["private"] = BUPPLE_ENGINE["DRIVERS"]["chat"]
BUPPLE_ENGINE["API"] |= {
    "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "AUTHENTICATION_CLASSES": ["tests.site.bearer.BearerAuthentication"],
    "THROTTLE_RATES": {"user": None},
    "MODELS": {"chat": ["gpt-6-luna"]},
    "OPTIONS": {"temperature": 1.0, "max_tokens": 1000},
}
