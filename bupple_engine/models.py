"""What gives the admin page its place in the index and its permissions; nothing is stored."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ConfigurationManager(models.Manager["Configuration"]):
    """Find nothing, without a query: dumpdata asks unmanaged models too."""

    def get_queryset(self) -> models.QuerySet[Configuration]:
        return super().get_queryset().none()


class Configuration(models.Model):
    """Stand for settings.BUPPLE_ENGINE in the admin; it has no table and no rows."""

    objects = ConfigurationManager()

    class Meta:
        managed = False
        base_manager_name = "objects"  # dumpdata --all asks it
        default_permissions = ()
        permissions = (
            ("view_configuration", "Can view the AI engine's configuration"),
            ("probe_configuration", "Can check the AI engine's drivers live and try them"),
        )
        verbose_name = _("configuration")
        verbose_name_plural = _("configuration")

    def __str__(self) -> str:
        return "settings.BUPPLE_ENGINE"
