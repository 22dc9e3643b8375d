"""Connections and transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from myosotis.errors import IntegrityError, InvalidArgumentError, UnavailableError

# A writer waits so long for another one.
BUSY_TIMEOUT_SECONDS = 10.0

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect(url: str) -> Engine:
    """The database at *url*, an SQLAlchemy URL such as ``sqlite:////var/lib/m.db``.

    Opens nothing yet. The engine may be used from any thread.

    Raises:
        InvalidArgumentError: for a URL that is none, or an SQLite database without a
            file: each connection would see another one.
    """
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and not _is_file(parsed):
            raise InvalidArgumentError("database", "an SQLite database needs a file")
        engine = create_engine(parsed)
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError) as error:
        problem = f"cannot use this URL: {error}"
        raise InvalidArgumentError("database", problem) from error
    if sqlite:
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database at one point in time.

    Raises:
        UnavailableError: when the database cannot be used.
        IntegrityError: when its file is corrupt.
    """
    with _translated(engine), engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is stored whole at the end, or not at all on an error.

    On SQLite one writer runs at a time; the others wait.

    Raises:
        UnavailableError: when the database cannot be used, also when it is full or
            another writer holds it for too long.
        IntegrityError: when its file is corrupt.
    """
    with _translated(engine), engine.connect() as connection:
        connection.execution_options(myosotis_begin="IMMEDIATE")
        with connection.begin():
            yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    name = f"database {engine.url.render_as_string(hide_password=True)}"
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError):
        raise  # stores know what a broken rule means; the rest is a defect
    except exc.DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code in _CORRUPT:
            raise IntegrityError(name) from error
        raise UnavailableError(name, str(error.orig)) from error


def _is_file(url: URL) -> bool:
    database = url.database or ""
    return database != "" and ":memory:" not in database


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own record
    # The driver must not open transactions by itself: it would do so too late, and
    # never around a change of tables.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("myosotis_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
