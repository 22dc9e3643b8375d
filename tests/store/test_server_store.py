import pytest
from myosotis.errors import IntegrityError
from myosotis.rollout.ports import ServerStore
from myosotis.store.memory import InMemoryServerStore
from myosotis.store.servers import SqlServerStore
from sqlalchemy import Engine, text

from tests.store.builders import a_server


@pytest.fixture(params=["memory", "sql"])
def servers(request: pytest.FixtureRequest) -> ServerStore:
    if request.param == "memory":
        return InMemoryServerStore()
    return SqlServerStore(request.getfixturevalue("engine"))


def test_what_a_server_said_last_is_kept(servers: ServerStore) -> None:
    servers.put(a_server())
    assert servers.page(limit=9) == (a_server(),)

    said = a_server(staged_generation=9, refusal=None)
    servers.put(said)
    assert servers.page(limit=9) == (said,)


def test_servers_come_by_name_and_in_pages(servers: ServerStore) -> None:
    for name in ("c", "a", "b"):
        servers.put(a_server(name))

    first = servers.page(limit=2)

    assert [server.name[-1] for server in first] == ["a", "b"]
    rest = servers.page(limit=2, after=first[-1].name)
    assert [server.name[-1] for server in rest] == ["c"]


def test_a_server_that_does_not_parse_is_corrupt(engine: Engine) -> None:
    servers = SqlServerStore(engine)
    servers.put(a_server())
    with engine.begin() as connection:
        connection.execute(text("UPDATE inference_servers SET heartbeat_time = 'x'"))

    with pytest.raises(IntegrityError) as corrupt:
        servers.page(limit=1)

    assert corrupt.value.name == a_server().name
