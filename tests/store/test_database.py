import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from myosotis.errors import (
    ConflictError,
    IntegrityError,
    InvalidArgumentError,
    UnavailableError,
)
from myosotis.policy.ports import PolicyChange
from myosotis.store.database import connect, reading, writing
from myosotis.store.policies import SqlPolicyStore
from sqlalchemy import Engine, text

from tests.policy.builders import NOON, a_policy


def pragma(engine: Engine, name: str) -> object:
    with reading(engine) as connection:
        return connection.scalar(text(f"PRAGMA {name}"))


def test_sqlite_keeps_its_promises(engine: Engine) -> None:
    assert pragma(engine, "journal_mode") == "wal"
    assert pragma(engine, "foreign_keys") == 1
    assert pragma(engine, "synchronous") == 2
    assert pragma(engine, "busy_timeout") == 10_000


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "what", "nosuchdatabase://x/y", ""]
)
def test_a_database_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError):
        connect(url)


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/missing/myosotis.db")

    with pytest.raises(UnavailableError), reading(engine):
        pass


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "myosotis.db").write_bytes(b"not a database at all" * 100)
    engine = connect(f"sqlite:///{tmp_path}/myosotis.db")

    with pytest.raises(IntegrityError), reading(engine):
        pass


def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as connection:
            connection.execute(text("INSERT INTO erasure_plans VALUES ('a', 'b')"))
            raise EOFError

    with pytest.raises(EOFError):
        fail()

    with reading(engine) as connection:
        assert connection.scalar(text("SELECT count(*) FROM erasure_plans")) == 0


def test_a_reader_sees_one_point_in_time(engine: Engine) -> None:
    count = text("SELECT count(*) FROM erasure_plans")
    with reading(engine) as before:
        assert before.scalar(count) == 0
        with writing(engine) as connection:
            connection.execute(text("INSERT INTO erasure_plans VALUES ('a', 'b')"))
        assert before.scalar(count) == 0
    with reading(engine) as after:
        assert after.scalar(count) == 1


def test_a_full_database_is_unavailable_and_keeps_what_it_has(engine: Engine) -> None:
    store = SqlPolicyStore(engine)
    kept = store.change(
        [PolicyChange("policies/a", a_policy("a"))], expected_revision=0, now=NOON
    )
    title = a_policy("b", title="x" * 200)
    with engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    many = [PolicyChange("policies/b", title)] * 500

    with pytest.raises(UnavailableError):
        store.change(many, expected_revision=1, now=NOON)

    assert store.registry() == kept


def test_of_threads_that_change_the_registry_together_each_wins_once(
    engine: Engine,
) -> None:
    store = SqlPolicyStore(engine)
    start = threading.Barrier(6)

    def add(number: int) -> int:
        start.wait()
        name = f"p{number}"
        change = [PolicyChange(f"policies/{name}", a_policy(name))]
        conflicts = 0
        while True:
            revision = store.registry().revision
            try:
                store.change(change, expected_revision=revision, now=NOON)
            except ConflictError:
                conflicts += 1
            else:
                return conflicts

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))

    registry = store.registry()
    assert registry.revision == 6
    assert sorted(r.number for r in registry.policies) == [1, 2, 3, 4, 5, 6]
