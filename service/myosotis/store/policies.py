"""Policies and their revisions in SQL."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, Row, Select, exc, func, insert, select

from myosotis.errors import ConflictError
from myosotis.policy.policies import Policy, PolicyRevision, Registry
from myosotis.policy.ports import PolicyChange
from myosotis.store.database import reading, writing
from myosotis.store.tables import policy_revisions
from myosotis.store.values import (
    from_document,
    stored,
    time_from_text,
    time_to_text,
    to_document,
)


class SqlPolicyStore:
    """Implements :class:`myosotis.policy.ports.PolicyStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def registry(self) -> Registry:
        with reading(self._engine) as connection:
            rows = connection.execute(_latest()).all()
        return _registry(rows)

    def change(
        self, changes: Sequence[PolicyChange], *, expected_revision: int, now: datetime
    ) -> Registry:
        try:
            with writing(self._engine) as connection:
                rows = connection.execute(_latest()).all()
                before = _registry(rows)
                if before.revision != expected_revision:
                    raise ConflictError("policies")
                if changes:
                    values = _values(before, changes, now)
                    connection.execute(insert(policy_revisions), values)
                return _registry(connection.execute(_latest()).all())
        except exc.IntegrityError as error:
            # Another writer took the same numbers first.
            raise ConflictError("policies") from error

    def revisions(
        self, policy_name: str, *, limit: int, before: int | None = None
    ) -> tuple[PolicyRevision, ...]:
        table = policy_revisions.c
        query = select(policy_revisions).where(table.policy_name == policy_name)
        if before is not None:
            query = query.where(table.number < before)
        query = query.order_by(table.number.desc()).limit(limit)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return tuple(_revision(row) for row in rows)


def _latest() -> Select[tuple[object, ...]]:
    """The latest revision of each policy, deleted ones too, by policy name."""
    table = policy_revisions.c
    newest = select(func.max(table.number)).group_by(table.policy_name)
    query = select(policy_revisions).where(table.number.in_(newest))
    return query.order_by(table.policy_name)


def _registry(rows: Sequence[Row[tuple[object, ...]]]) -> Registry:
    revisions = [_revision(row) for row in rows]
    return Registry(
        max((revision.number for revision in revisions), default=0),
        tuple(revision for revision in revisions if revision.policy is not None),
    )


def _revision(row: Row[tuple[object, ...]]) -> PolicyRevision:
    with stored(f"{row.policy_name}/revisions/{row.number}"):
        document = row.document
        return PolicyRevision(
            number=int(row.number),
            policy_name=row.policy_name,
            policy=None if document is None else from_document(Policy, document),
            create_time=time_from_text(row.create_time),
            source_file=row.source_file,
            first_create_time=time_from_text(row.first_create_time),
        )


def _values(
    before: Registry, changes: Sequence[PolicyChange], now: datetime
) -> list[dict[str, object]]:
    first = {r.policy_name: r.first_create_time for r in before.policies}
    values: list[dict[str, object]] = []
    for number, change in enumerate(changes, start=before.revision + 1):
        first_time = first.get(change.name) or now
        first[change.name] = first_time if change.policy is not None else None
        values.append(
            {
                "number": number,
                "policy_name": change.name,
                "document": None
                if change.policy is None
                else to_document(change.policy),
                "source_file": change.source_file,
                "create_time": time_to_text(now),
                "first_create_time": time_to_text(first_time),
            }
        )
    return values
