"""manage.py bupple_models: what a provider offers now."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from bupple_engine import ai
from bupple_engine.management.terminal import reported
from bupple_engine.masking.printing import one_line


class Command(BaseCommand):
    """Print the names of the models, one per line."""

    help = "Lists the models that a driver's provider offers now, one per line; this costs no tokens."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("alias", nargs="?", help="The driver; the default one, if none is given.")

    def handle(self, *args: Any, **options: Any) -> None:
        with reported():
            for name in ai(options["alias"]).models():
                self.stdout.write(one_line(name))
