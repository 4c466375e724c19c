"""The Django app."""

from django.apps import AppConfig
from django.core.checks import register
from django.utils.translation import gettext_lazy as _


class BuppleEngineConfig(AppConfig):
    """Name the app in INSTALLED_APPS and the admin."""

    name = "bupple_engine"
    verbose_name = _("AI engine")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        from .checks import TAG, check_deployment, check_settings

        register(check_settings, TAG)
        register(check_deployment, TAG, deploy=True)
