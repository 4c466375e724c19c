"""The Django app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BuppleEngineConfig(AppConfig):
    """Name the app in INSTALLED_APPS and the admin."""

    name = "bupple_engine"
    verbose_name = _("AI engine")
    default_auto_field = "django.db.models.BigAutoField"
