"""The Django app; it costs nothing to who leaves it out of INSTALLED_APPS."""

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class ConversationsConfig(AppConfig):
    """Name the app in INSTALLED_APPS, its tables and the admin."""

    name = "bupple_engine.conversations"
    label = "bupple_conversations"
    verbose_name = _("AI conversations")

    def ready(self) -> None:
        """Register the check of the tables."""
        from .checks import check_tables

        register(check_tables, Tags.database)
