"""The places where conversations are kept, for the contract suite: databases and caches, real ones.

PostgreSQL, MariaDB and Redis are looked for on the loopback interface, as .ci/services makes sure of them, or
where BUPPLE_POSTGRESQL_URL, BUPPLE_MARIADB_URL and BUPPLE_REDIS_URL say. One that is missing skips its tests,
unless BUPPLE_SERVICES is "required".
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environ
import pymysql
import pytest
import redis
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

pymysql.install_as_MySQLdb()

APP = "bupple_conversations"

URLS = {
    "postgresql": os.environ.get("BUPPLE_POSTGRESQL_URL", "postgres://bupple:bupple@127.0.0.1:5432/postgres"),
    "mariadb": os.environ.get("BUPPLE_MARIADB_URL", "mysql://bupple:bupple@127.0.0.1:3306/mysql"),
    "redis": os.environ.get("BUPPLE_REDIS_URL", "redis://127.0.0.1:6379/9"),
}
DATABASES = ("sqlite", "postgresql", "mariadb")
CACHES = ("locmem", "file", "redis")
KINDS = (*DATABASES, *CACHES)

# What a killed run has left is dropped by the first run that comes this many seconds later.
LEFT_BEHIND = 3600

# Kinds whose add() is atomic, so that of two processes one is first.
SHARED = ("sqlite", "postgresql", "mariadb", "redis")


Execute = Callable[[str], list[tuple[Any, ...]]]


class Router:
    """Send conversations to the database under test: they may live in one of their own."""

    alias = "default"

    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == APP else None  # type: ignore[attr-defined]

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return app_label == APP if db in DATABASES else None


def marked(kinds: Iterable[str]) -> list[Any]:
    """Return kinds as parameters; what needs a server is left out by -m 'not services'."""
    return [pytest.param(kind, marks=pytest.mark.services) if kind in URLS else kind for kind in kinds]


def missing(kind: str, error: Exception) -> None:
    """Skip a test whose service is not here, or fail it where all must be."""
    words = f"no {kind} at {URLS[kind]}: {type(error).__name__}"
    if os.environ.get("BUPPLE_SERVICES") == "required":
        pytest.fail(words)
    pytest.skip(words)


def database_settings(kind: str, folder: Path) -> dict[str, Any]:
    """Return the entry of DATABASES for a database that is this process's own."""
    if kind == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "conversations.sqlite3"),
            "OPTIONS": {"timeout": 20},
        }
    found = dict(environ.Env.db_url_config(URLS[kind]))
    name = f"bupple_{int(time.time())}_{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"connect_timeout": 5}
    if kind == "postgresql":
        options["options"] = "-c synchronous_commit=off"  # what is lost with the machine's power is no matter
    return {**found, "NAME": name, "OPTIONS": options}


@contextmanager
def created(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a database with our tables in it, under an alias that is its kind."""
    entry = database_settings(kind, folder)
    try:
        with admin(kind) as execute:
            drop_left_behind(kind, execute)
            execute(f"CREATE DATABASE {entry['NAME']}{' CHARACTER SET utf8mb4' * (kind == 'mariadb')}")
    except Exception as error:
        missing(kind, error)
    add_connection(kind, entry)
    try:
        Router.alias = kind
        call_command("migrate", APP, database=kind, verbosity=0)
        yield entry
    finally:
        Router.alias = "default"
        connections[kind].close()
        del connections.settings[kind], connections[kind]
        with admin(kind) as execute:
            drop(kind, entry["NAME"], execute)


def drop(kind: str, name: str, execute: Execute) -> None:
    execute(f"DROP DATABASE IF EXISTS {name}{' WITH (FORCE)' * (kind == 'postgresql')}")


def drop_left_behind(kind: str, execute: Execute) -> None:
    """Drop the databases of runs that were killed: their names say when they were made."""
    listed = {"postgresql": "SELECT datname FROM pg_database", "mariadb": "SHOW DATABASES"}
    for (name,) in execute(listed[kind]) if kind in listed else ():
        made = re.fullmatch(r"bupple_(\d{10})_[0-9a-f]{8}", name)
        if made and time.time() - int(made[1]) > LEFT_BEHIND:
            drop(kind, name, execute)


def add_connection(alias: str, entry: dict[str, Any]) -> BaseDatabaseWrapper:
    """Have an alias stand for a database, as if the settings had it."""
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: entry})[alias]
    return connections[alias]


@contextmanager
def admin(kind: str) -> Iterator[Execute]:
    """Give what executes a statement at the server, beside all databases; SQLite has none."""
    if kind == "sqlite":
        yield lambda statement: []
        return
    entry = dict(environ.Env.db_url_config(URLS[kind]))
    place = {"host": entry["HOST"], "port": int(entry["PORT"]), "user": entry["USER"], "connect_timeout": 5}
    if kind == "postgresql":
        import psycopg

        with psycopg.connect(
            **place, password=entry["PASSWORD"], dbname=entry["NAME"], autocommit=True
        ) as it:
            yield lambda statement: rows_of(it.execute(statement))
    else:
        connection = pymysql.connect(**place, password=entry["PASSWORD"])
        try:
            cursor = connection.cursor()
            yield lambda statement: list(cursor.fetchall()) if cursor.execute(statement) else []
        finally:
            connection.close()


def rows_of(cursor: Any) -> list[tuple[Any, ...]]:
    return list(cursor.fetchall()) if cursor.description else []


def cache_settings(kind: str, folder: Path) -> dict[str, Any]:
    """Return the entry of CACHES for a kind of cache."""
    backend = "django.core.cache.backends"
    if kind == "locmem":
        return {"BACKEND": f"{backend}.locmem.LocMemCache", "LOCATION": str(folder)}
    if kind == "file":
        return {"BACKEND": f"{backend}.filebased.FileBasedCache", "LOCATION": str(folder / "cache")}
    try:
        with redis.Redis.from_url(URLS["redis"], socket_connect_timeout=2) as server:
            server.ping()
    except redis.RedisError as error:
        missing("redis", error)
    return {
        "BACKEND": f"{backend}.redis.RedisCache",
        "LOCATION": URLS["redis"],
        "KEY_PREFIX": folder.name + uuid.uuid4().hex,
    }


def memory_settings(kind: str, **more: Any) -> dict[str, Any]:
    """Return MEMORY for a kind of store."""
    stores = {"it": {"STORE": "cache", "CACHE": "conversations"} if kind in CACHES else {"STORE": "database"}}
    return {"STORE": "it", "STORES": stores, **more}
