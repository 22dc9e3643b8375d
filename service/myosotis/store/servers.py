"""Inference servers, as last heard, in SQL."""

from sqlalchemy import Engine, Row, insert, select, update

from myosotis.rollout.generations import InferenceServer, ServerRefusal
from myosotis.store.database import reading, writing
from myosotis.store.tables import inference_servers
from myosotis.store.values import stored, time_from_text, time_to_text

_SERVER = inference_servers.c


class SqlServerStore:
    """Implements :class:`myosotis.rollout.ports.ServerStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, server: InferenceServer) -> None:
        values = _values(server)
        change = update(inference_servers).where(_SERVER.name == server.name)
        with writing(self._engine) as connection:
            if connection.execute(change.values(values)).rowcount == 0:
                connection.execute(insert(inference_servers).values(values))

    def page(
        self, *, limit: int, after: str | None = None
    ) -> tuple[InferenceServer, ...]:
        query = select(inference_servers).order_by(_SERVER.name).limit(limit)
        if after is not None:
            query = query.where(_SERVER.name > after)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return tuple(_server(row) for row in rows)


def _server(row: Row[tuple[object, ...]]) -> InferenceServer:
    with stored(row.name):
        refusal = None
        if row.refused_generation is not None:
            refusal = ServerRefusal(
                int(row.refused_generation), row.refusal_reason, row.refusal_detail
            )
        return InferenceServer(
            name=row.name,
            model=row.model,
            base_digest=row.base_digest,
            heartbeat_time=time_from_text(row.heartbeat_time),
            active_generation=int(row.active_generation),
            staged_generation=int(row.staged_generation),
            tensor_root=row.tensor_root,
            address=row.address,
            refusal=refusal,
        )


def _values(server: InferenceServer) -> dict[str, object]:
    refusal = server.refusal
    return {
        "name": server.name,
        "model": server.model,
        "base_digest": server.base_digest,
        "heartbeat_time": time_to_text(server.heartbeat_time),
        "active_generation": server.active_generation,
        "staged_generation": server.staged_generation,
        "tensor_root": server.tensor_root,
        "address": server.address,
        "refused_generation": refusal.generation if refusal else None,
        "refusal_reason": refusal.reason if refusal else None,
        "refusal_detail": refusal.detail if refusal else None,
    }
