"""The places where conversations are kept, for the contract suite: databases and caches, real ones.

PostgreSQL, MariaDB and Redis are looked for on the loopback interface, or where BUPPLE_POSTGRESQL_URL,
BUPPLE_MARIADB_URL and BUPPLE_REDIS_URL say. One that is missing skips its tests, unless BUPPLE_SERVICES is
"required".
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
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
    "postgresql": os.environ.get("BUPPLE_POSTGRESQL_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
    "mariadb": os.environ.get("BUPPLE_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
    "redis": os.environ.get("BUPPLE_REDIS_URL", "redis://127.0.0.1:6379/9"),
}
DATABASES = ("sqlite", "postgresql", "mariadb")
CACHES = ("locmem", "file", "redis")
KINDS = (*DATABASES, *CACHES)

# Kinds whose add() is atomic, so that of two processes one is first.
SHARED = ("sqlite", "postgresql", "mariadb", "redis")


class Router:
    """Send conversations to the database under test: they may live in one of their own."""

    alias = "default"

    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == APP else None  # type: ignore[attr-defined]

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return app_label == APP if db in DATABASES else None


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
    name = f"bupple_{uuid.uuid4().hex[:12]}"
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
            execute(f"DROP DATABASE {entry['NAME']}{' WITH (FORCE)' * (kind == 'postgresql')}")


def add_connection(alias: str, entry: dict[str, Any]) -> BaseDatabaseWrapper:
    """Have an alias stand for a database, as if the settings had it."""
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: entry})[alias]
    return connections[alias]


@contextmanager
def admin(kind: str) -> Iterator[Callable[[str], object]]:
    """Give what executes a statement at the server, beside all databases; SQLite has none."""
    if kind == "sqlite":
        yield lambda statement: None
        return
    entry = dict(environ.Env.db_url_config(URLS[kind]))
    place = {"host": entry["HOST"], "port": int(entry["PORT"]), "user": entry["USER"], "connect_timeout": 5}
    if kind == "postgresql":
        import psycopg

        with psycopg.connect(
            **place, password=entry["PASSWORD"], dbname=entry["NAME"], autocommit=True
        ) as it:
            yield it.execute
    else:
        connection = pymysql.connect(**place, password=entry["PASSWORD"])
        try:
            yield connection.cursor().execute
        finally:
            connection.close()


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
