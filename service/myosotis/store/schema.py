"""Brings a database to the tables that this version needs."""

from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from myosotis.errors import PreconditionError
from myosotis.store.database import reading, writing
from myosotis.store.tables import HEAD

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = "myosotis.store.migrations"


class SchemaError(PreconditionError):
    """The database was made by a version of the service that this one cannot read."""


def upgrade(engine: Engine) -> None:
    """Runs the migrations that are missing, in one transaction; often none is.

    Raises:
        SchemaError: when the database is newer than this version.
        UnavailableError: when it cannot be used.
    """
    with reading(engine) as connection:
        if _revision(connection) == HEAD:
            return
    with writing(engine) as connection:
        # Another process may have been first.
        if _revision(connection) != HEAD:
            _run_alembic(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(
        text("SELECT version_num FROM alembic_version")
    )
    return revision


def _run_alembic(connection: Connection) -> None:
    # Alembic costs a third of a second to import, and is needed once for each schema.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.util.exc import CommandError  # noqa: PLC0415 - see above

    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        raise SchemaError(f"cannot bring the database to {HEAD}: {error}") from error


def alembic_config(connection: Connection) -> "Config":
    """The settings of Alembic for *connection*, for commands of :mod:`alembic`."""
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    folder = resources.files(_MIGRATIONS)
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
