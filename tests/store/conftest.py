from collections.abc import Iterator
from pathlib import Path

import pytest
from myosotis.store.database import connect
from myosotis.store.schema import upgrade
from sqlalchemy import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A fresh database with every table."""
    engine = connect(f"sqlite:///{tmp_path}/myosotis.db")
    upgrade(engine)
    yield engine
    engine.dispose()
