"""UnlearningService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import grpc.aio

from myosotis import names
from myosotis.errors import RunStateError
from myosotis.rollout.ports import RunStore
from myosotis.rollout.reconciler import Reconciler
from myosotis.rpc.changes import Changes, settled
from myosotis.rpc.paging import page
from myosotis.rpc.wire import run_to_wire
from myosotis.unlearning.runs import RunState, UnlearningRun
from myosotis.v1 import (
    unlearning_run_pb2,
    unlearning_service_pb2,
    unlearning_service_pb2_grpc,
)

# Progress is not announced, so watchers look again after so long.
_LOOK_AGAIN_SECONDS = 0.5


class UnlearningServicer(unlearning_service_pb2_grpc.UnlearningServiceServicer):
    """Shows, cancels and retries runs."""

    def __init__(
        self,
        *,
        runs: RunStore,
        reconciler: Reconciler,
        changes: Changes,
        now: Callable[[], datetime],
    ) -> None:
        self._runs = runs
        self._reconciler = reconciler
        self._changes = changes
        self._now = now

    async def GetUnlearningRun(
        self,
        request: unlearning_service_pb2.GetUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> unlearning_run_pb2.UnlearningRun:
        names.parse("run", request.name)
        return await asyncio.to_thread(self._read, request.name)

    async def ListUnlearningRuns(
        self,
        request: unlearning_service_pb2.ListUnlearningRunsRequest,
        context: grpc.aio.ServicerContext,
    ) -> unlearning_service_pb2.ListUnlearningRunsResponse:
        model = None
        if request.parent != "models/-":
            names.parse("model", request.parent, field="parent")
            model = request.parent
        rows, token = await asyncio.to_thread(
            page,
            size=request.page_size,
            token=request.page_token,
            kind=str,
            read=lambda limit, before: self._runs.page(
                model=model, limit=limit, before=before
            ),
            key=lambda run: run.name,
        )
        return unlearning_service_pb2.ListUnlearningRunsResponse(
            unlearning_runs=[run_to_wire(run) for run in rows], next_page_token=token
        )

    async def WatchUnlearningRun(
        self,
        request: unlearning_service_pb2.WatchUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[unlearning_run_pb2.UnlearningRun]:
        names.parse("run", request.name)
        sent = None
        while True:
            upcoming = self._changes.upcoming()
            run = await asyncio.to_thread(self._read, request.name)
            if run != sent:
                yield run
                sent = run
            if RunState(unlearning_run_pb2.UnlearningRun.State.Name(run.state)).ended:
                return
            await settled(upcoming, seconds=_LOOK_AGAIN_SECONDS)

    async def CancelUnlearningRun(
        self,
        request: unlearning_service_pb2.CancelUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> unlearning_run_pb2.UnlearningRun:
        names.parse("run", request.name)
        run = await asyncio.to_thread(self._cancel, request.name)
        self._changes.announce()
        return run_to_wire(run)

    async def RetryUnlearningRun(
        self,
        request: unlearning_service_pb2.RetryUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> unlearning_run_pb2.UnlearningRun:
        names.parse("run", request.name)
        run = await asyncio.to_thread(self._retry, request.name)
        self._changes.announce()
        return run_to_wire(run)

    def _read(self, name: str) -> unlearning_run_pb2.UnlearningRun:
        run = self._runs.get(name)
        return run_to_wire(run, *self._runs.evidence(name))

    def _cancel(self, name: str) -> UnlearningRun:
        run = self._runs.get(name)
        cancelled = run.cancel_requested(now=self._now())
        self._runs.replace(run, cancelled)
        return cancelled

    def _retry(self, name: str) -> UnlearningRun:
        run = self._runs.get(name)
        latest = self._runs.latest(run.plan.model, run.plan.digest)
        if run.state not in (RunState.FAILED, RunState.CANCELLED) or latest != run:
            # Either it is not over, or somebody has retried it already.
            raise RunStateError(name, run.state, RunState.QUEUED)
        return self._reconciler.new_run(run.plan, run.policy_revision)
