"""Unlearning runs in SQL."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    exc,
    insert,
    select,
    tuple_,
    update,
)

from myosotis.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    NotFoundError,
)
from myosotis.policy.plans import ErasurePlan
from myosotis.store.database import reading, writing
from myosotis.store.tables import erasure_plans, run_evidence, unlearning_runs
from myosotis.store.values import (
    from_document,
    optional_time_from_text,
    optional_time_to_text,
    stored,
    time_from_text,
    time_to_text,
    to_document,
)
from myosotis.unlearning.runs import RunProgress, RunState, UnlearningRun
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement

_RUN = unlearning_runs.c
_UNFINISHED = tuple(state.value for state in RunState if not state.ended)


class SqlRunStore:
    """Implements :class:`myosotis.rollout.ports.RunStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, name: str) -> UnlearningRun:
        runs = self._select(_runs().where(_RUN.name == name))
        if not runs:
            raise NotFoundError(name)
        return runs[0]

    def add(self, run: UnlearningRun) -> None:
        try:
            with writing(self._engine) as connection:
                _keep_plan(connection, run.plan)
                connection.execute(insert(unlearning_runs).values(_values(run)))
        except exc.IntegrityError as error:
            raise AlreadyExistsError(run.name) from error

    def replace(self, old: UnlearningRun, new: UnlearningRun) -> None:
        with writing(self._engine) as connection:
            swap_run(connection, old, new)

    def page(
        self, *, model: str | None, limit: int, before: str | None = None
    ) -> tuple[UnlearningRun, ...]:
        query = _runs()
        if model is not None:
            query = query.where(_RUN.model == model)
        if before is not None:
            time = time_to_text(self.get(before).create_time)
            query = query.where(tuple_(_RUN.create_time, _RUN.name) < (time, before))
        return self._select(_newest_first(query).limit(limit))

    def latest(self, model: str, plan_digest: str) -> UnlearningRun | None:
        query = _runs().where(_RUN.model == model, _RUN.plan_digest == plan_digest)
        runs = self._select(_newest_first(query).limit(1))
        return runs[0] if runs else None

    def unfinished(self, model: str | None = None) -> tuple[UnlearningRun, ...]:
        query = _runs().where(_RUN.state.in_(_UNFINISHED))
        if model is not None:
            query = query.where(_RUN.model == model)
        return self._select(query.order_by(_RUN.create_time, _RUN.name))

    def claim(
        self, *, worker: str, models: Collection[str], now: datetime, until: datetime
    ) -> UnlearningRun | None:
        query = (
            _runs()
            .where(
                _RUN.state == RunState.QUEUED.value,
                _RUN.model.in_(models),
                _RUN.not_before <= time_to_text(now),
            )
            .order_by(_RUN.create_time, _RUN.name)
            .limit(1)
            .with_for_update(of=unlearning_runs, skip_locked=True)
        )
        with writing(self._engine) as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            waiting = _run(row)
            claimed = waiting.claimed(worker, now=now, lease_until=until)
            swap_run(connection, waiting, claimed)
            return claimed

    def evidence(
        self, name: str
    ) -> tuple[tuple[Measurement, ...], tuple[GateResult, ...]]:
        query = (
            select(_RUN.name, run_evidence.c.measurements, run_evidence.c.gate_results)
            .outerjoin_from(unlearning_runs, run_evidence)
            .where(_RUN.name == name)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(name)
        if row.measurements is None:
            return (), ()
        with stored(f"evidence of {name}"):
            return (
                from_document(tuple[Measurement, ...], row.measurements),
                from_document(tuple[GateResult, ...], row.gate_results),
            )

    def record_evidence(
        self,
        name: str,
        measurements: tuple[Measurement, ...],
        results: tuple[GateResult, ...],
    ) -> None:
        documents = {
            "measurements": to_document(measurements),
            "gate_results": to_document(results),
        }
        ours = run_evidence.c.run == name
        try:
            with writing(self._engine) as connection:
                change = update(run_evidence).where(ours).values(documents)
                if connection.execute(change).rowcount == 0:
                    added = insert(run_evidence).values(run=name, **documents)
                    connection.execute(added)
        except exc.IntegrityError as error:
            raise NotFoundError(name) from error

    def _select(self, query: Select[tuple[object, ...]]) -> tuple[UnlearningRun, ...]:
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return tuple(_run(row) for row in rows)


def swap_run(connection: Connection, old: UnlearningRun, new: UnlearningRun) -> None:
    """Replaces *old* by *new* inside the caller's transaction.

    Raises:
        ConflictError: when the stored run has another state or attempt than *old*, or
            does not exist.
    """
    change = (
        update(unlearning_runs)
        .where(
            _RUN.name == old.name,
            _RUN.state == old.state.value,
            _RUN.attempt == old.attempt,
        )
        .values(_values(new))
    )
    if connection.execute(change).rowcount != 1:
        raise ConflictError(old.name)


def _runs() -> Select[tuple[object, ...]]:
    return select(unlearning_runs, erasure_plans.c.document).join(erasure_plans)


def _newest_first(query: Select[tuple[object, ...]]) -> Select[tuple[object, ...]]:
    return query.order_by(_RUN.create_time.desc(), _RUN.name.desc())


def _keep_plan(connection: Connection, plan: ErasurePlan) -> None:
    known: ColumnElement[bool] = erasure_plans.c.digest == plan.digest
    if connection.execute(select(erasure_plans.c.digest).where(known)).first() is None:
        row = {"digest": plan.digest, "document": to_document(plan)}
        connection.execute(insert(erasure_plans).values(row))


def _run(row: Row[tuple[object, ...]]) -> UnlearningRun:
    with stored(row.name):
        plan = from_document(ErasurePlan, row.document)
        if plan.digest != row.plan_digest:
            raise IntegrityError(row.name)
        return UnlearningRun(
            name=row.name,
            plan=plan,
            policy_revision=int(row.policy_revision),
            create_time=time_from_text(row.create_time),
            not_before=time_from_text(row.not_before),
            state=RunState(row.state),
            attempt=int(row.attempt),
            worker=row.worker,
            lease_expire_time=optional_time_from_text(row.lease_expire_time),
            progress=RunProgress(row.phase, int(row.done_steps), int(row.total_steps)),
            patch=row.patch,
            failure=row.failure,
            start_time=optional_time_from_text(row.start_time),
            end_time=optional_time_from_text(row.end_time),
        )


def _values(run: UnlearningRun) -> dict[str, object]:
    return {
        "name": run.name,
        "model": run.plan.model,
        "plan_digest": run.plan.digest,
        "policy_revision": run.policy_revision,
        "create_time": time_to_text(run.create_time),
        "not_before": time_to_text(run.not_before),
        "state": run.state.value,
        "attempt": run.attempt,
        "worker": run.worker,
        "lease_expire_time": optional_time_to_text(run.lease_expire_time),
        "phase": run.progress.phase,
        "done_steps": run.progress.done_steps,
        "total_steps": run.progress.total_steps,
        "patch": run.patch,
        "failure": run.failure,
        "start_time": optional_time_to_text(run.start_time),
        "end_time": optional_time_to_text(run.end_time),
    }
