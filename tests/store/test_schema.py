import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from myosotis.errors import PreconditionError
from myosotis.store.database import connect, writing
from myosotis.store.schema import alembic_config, upgrade
from myosotis.store.tables import HEAD, metadata
from sqlalchemy import Engine, inspect, text


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def test_migrations_make_just_the_tables_that_the_code_declares(
    engine: Engine,
) -> None:
    assert differences(engine) == []


def test_migrations_go_down_to_nothing_and_up_again(engine: Engine) -> None:
    with writing(engine) as connection:
        command.downgrade(alembic_config(connection), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]

    upgrade(engine)

    assert differences(engine) == []


def test_the_declared_revision_is_the_newest_migration(engine: Engine) -> None:
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(alembic_config(connection))

    assert scripts.get_heads() == [HEAD]


def test_an_interrupted_migration_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/half.db")

    def interrupted() -> None:
        with writing(engine) as connection:
            command.upgrade(alembic_config(connection), "head")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(PreconditionError):
        upgrade(engine)


START = """
import sys
from myosotis.store.database import connect
from myosotis.store.schema import upgrade
from myosotis.store import patches, policies, runs, servers
engine = connect(sys.argv[1])
upgrade(engine)
print("alembic" in sys.modules)
"""


def test_a_start_without_migrations_does_not_import_alembic(engine: Engine) -> None:
    service = str(Path(__file__).parents[2] / "service")

    done = subprocess.run(
        [sys.executable, "-c", START, str(engine.url)],
        env={"PYTHONPATH": service},
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == "False"


def test_two_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/together.db"
    service = str(Path(__file__).parents[2] / "service")

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START, url],
            env={"PYTHONPATH": service},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    engine = connect(url)
    assert differences(engine) == []
    engine.dispose()
