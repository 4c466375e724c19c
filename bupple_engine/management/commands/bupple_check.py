"""manage.py bupple_check: the system checks of this app, and with --live a probe of each driver."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from bupple_engine import ai, conf
from bupple_engine.diagnostics.probe import probe_all
from bupple_engine.management.terminal import reported
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import one_line, printable
from bupple_engine.protocol.options import suggest

WORDS = {
    "reachable": {True: "reachable", False: "not reachable"},
    "key_accepted": {True: "key accepted", False: "key refused"},
    "model_known": {True: "model known", False: "model unknown"},
}


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < 3600:
            return seconds
    raise ArgumentTypeError("must be a number of more than 0 and less than 3600")


class Command(BaseCommand):
    """Report what is wrong with the drivers; exit with status 1 if anything is an error."""

    help = (
        "Checks the drivers of settings.BUPPLE_ENGINE, with --live also whether each is reachable, takes the "
        "key and has the model, which costs no tokens. Ends with status 1 where there is an error."
    )
    requires_system_checks = ()  # it reports what would end it

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("aliases", nargs="*", metavar="alias", help="The drivers; all, if none is given.")
        parser.add_argument("--live", action="store_true", help="Ask the providers, all at once.")
        parser.add_argument(
            "--seconds", type=_seconds, default=10.0, help="How long --live may take; 10 unless set."
        )
        parser.add_argument("--deploy", action="store_true", help="Add the checks of `check --deploy`.")
        parser.add_argument("--json", action="store_true", help="Write one JSON object to standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        with reported():
            known = [alias for alias, _ in conf.entries()]
            for alias in options["aliases"]:
                if alias not in known:
                    hint = suggest(alias, [unkeyed(str(name)) for name in known])
                    raise CommandError(f"There is no driver {shown(alias)}.{hint}")
            aliases = list(dict.fromkeys(options["aliases"])) or known
            report = _report(known, aliases, deploy=options["deploy"])
            if options["live"]:
                for driver, verdict in zip(
                    report["drivers"], probe_all(aliases, options["seconds"]), strict=True
                ):
                    driver["live"] = verdict.as_dict()
                    report["errors"] += not verdict.ok
            nobody = options["live"] and not aliases
            report["ok"] = not (report["errors"] or nobody)
            if options["json"]:
                self.stdout.write(json.dumps(report, indent=2))
            else:
                self._write(report)
        if not report["ok"]:
            errors = _count(report["errors"], "error")
            raise CommandError("There is no driver to ask." if nobody and not report["errors"] else errors)

    def _write(self, report: dict[str, Any]) -> None:
        for message in report["messages"]:
            self._write_message(message)
        for driver in report["drivers"]:
            facts = ", ".join(filter(None, (driver["driver"], driver["model"])))
            default = " (default)" if driver["default"] else ""
            alias = self.style.MIGRATE_HEADING(one_line(str(driver["alias"])))
            self.stdout.write(alias + default + (f": {one_line(facts)}" if facts else ""))
            for message in driver["messages"]:
                self._write_message(message, "  ")
            if driver["live"]:
                self._write_verdict(driver["live"])
        if report["ok"]:
            warnings = _count(report["warnings"], "warning")
            self.stdout.write(self.style.SUCCESS(f"No errors, {warnings}."))

    def _write_message(self, message: dict[str, Any], indent: str = "") -> None:
        serious = message["level"] in ("ERROR", "CRITICAL")
        level = (self.style.ERROR if serious else self.style.WARNING)(message["level"])
        where = f"{message['address']}: " if message["address"] else ""
        text = printable(f"{where}({message['id']}) {message['message']}")
        self.stdout.write(f"{indent}{level} {text}")
        if message["hint"]:
            self.stdout.write(f"{indent}  {printable(message['hint'])}")

    def _write_verdict(self, verdict: dict[str, Any]) -> None:
        style = self.style.SUCCESS if verdict["ok"] else self.style.ERROR
        words = [told[verdict[name]] for name, told in WORDS.items() if verdict[name] is not None]
        words += [f"{verdict['latency']:.2f} s"] if verdict["latency"] is not None else []
        lines = [f"{style('live')}: {', '.join(words) or 'nothing could be told'}"]
        lines += [one_line(verdict[name]) for name in ("error", "advice") if verdict[name]]
        self.stdout.write("\n".join(f"  {'  ' * bool(i)}{line}" for i, line in enumerate(lines)))


def _report(known: list[str], aliases: list[str], *, deploy: bool) -> dict[str, Any]:
    """Return what the system checks say, as JSON's types."""
    general: list[dict[str, Any]] = []
    drivers = {alias: _driver(alias) for alias in aliases}
    told = []
    for message in checks.run_checks(tags=["bupple_engine"], include_deployment_checks=deploy):
        alias = getattr(message.obj, "alias", None)
        if message.is_silenced() or (alias in known and alias not in drivers):
            continue
        facts = {
            "id": message.id,
            "level": logging.getLevelName(message.level),
            "address": "" if message.obj is None else str(message.obj),
            "message": str(message.msg),
            "hint": str(message.hint or ""),
        }
        (drivers[alias]["messages"] if alias in drivers else general).append(facts)
        told.append(message)
    errors = sum(message.is_serious() for message in told)
    return {
        "ok": not errors,
        "errors": errors,
        "warnings": sum(message.level == checks.WARNING for message in told),
        "messages": general,
        "drivers": list(drivers.values()),
    }


def _driver(alias: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"alias": unkeyed(str(alias)), "default": False, "driver": None, "model": None}
    # What can't be told of a wrong entry, the checks say.
    with suppress(ImproperlyConfigured):
        facts["default"] = conf.default_alias() == alias
    with suppress(Exception):  # whatever a third party's driver raises
        config = ai(alias).get_config()
        facts |= {"driver": config["driver"], "model": config.get("model")}
    return {**facts, "messages": [], "live": None}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
