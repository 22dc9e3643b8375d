"""Unlearning runs: their states, and the steps between them."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from myosotis.errors import RunStateError
from myosotis.policy.plans import ErasurePlan


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return not _NEXT[self]


_NEXT: dict[RunState, frozenset[RunState]] = {
    # RUNNING to QUEUED: the lease of a dead worker ran out.
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset(
        {RunState.QUEUED, RunState.CANCELLING, RunState.SUCCEEDED, RunState.FAILED}
    ),
    RunState.CANCELLING: frozenset(
        {RunState.CANCELLED, RunState.SUCCEEDED, RunState.FAILED}
    ),
    RunState.CANCELLED: frozenset(),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is; ``total_steps`` is 0 when not known."""

    phase: str = ""
    done_steps: int = 0
    total_steps: int = 0


@dataclass(frozen=True, slots=True)
class UnlearningRun:
    """One piece of work: make a model forget a plan, and prove it.

    Attributes:
        name: ``models/{model}/unlearningRuns/{run}``.
        plan: what to forget.
        policy_revision: registry revision that asked for it.
        state: where it stands.
        attempt: how often it was claimed; the fencing token of its holder.
        worker: its holder, ``workers/{worker}``; empty when none.
        lease_expire_time: until when the holder has it; None when nobody does.
        not_before: a worker may claim it from then on, so that policies that arrive
            together become one run.
        patch: name of the published patch, once SUCCEEDED.
        failure: why it FAILED, in one line.
    """

    name: str
    plan: ErasurePlan
    policy_revision: int
    create_time: datetime
    not_before: datetime
    state: RunState = RunState.QUEUED
    attempt: int = 0
    worker: str = ""
    lease_expire_time: datetime | None = None
    progress: RunProgress = field(default_factory=RunProgress)
    patch: str = ""
    failure: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None

    def claimed(self, worker: str, *, now: datetime, lease_until: datetime) -> Self:
        """The run in the hands of *worker*, with the next attempt."""
        return replace(
            self._to(RunState.RUNNING),
            worker=worker,
            attempt=self.attempt + 1,
            lease_expire_time=lease_until,
            start_time=self.start_time or now,
            progress=RunProgress(),
        )

    def renewed(self, progress: RunProgress, *, lease_until: datetime) -> Self:
        """The same run, held longer."""
        if self.state not in (RunState.RUNNING, RunState.CANCELLING):
            raise RunStateError(self.name, self.state, RunState.RUNNING)
        return replace(self, progress=progress, lease_expire_time=lease_until)

    def lost(self, *, now: datetime) -> Self:
        """The run after its holder died: waiting again, or cancelled if so asked."""
        if self.state is RunState.CANCELLING:
            return self.cancelled(now=now)
        return replace(self._to(RunState.QUEUED), worker="", lease_expire_time=None)

    def cancel_requested(self, *, now: datetime) -> Self:
        """Cancelled at once when nobody holds it, otherwise CANCELLING."""
        if self.state is RunState.CANCELLING:
            return self
        if self.state is RunState.RUNNING:
            return self._to(RunState.CANCELLING)
        return self.cancelled(now=now)

    def cancelled(self, *, now: datetime) -> Self:
        return self._ended(RunState.CANCELLED, now)

    def succeeded(self, patch: str, *, now: datetime) -> Self:
        return replace(self._ended(RunState.SUCCEEDED, now), patch=patch)

    def failed(self, failure: str, *, now: datetime) -> Self:
        return replace(self._ended(RunState.FAILED, now), failure=failure)

    def _ended(self, state: RunState, now: datetime) -> Self:
        return replace(self._to(state), end_time=now, worker="", lease_expire_time=None)

    def _to(self, state: RunState) -> Self:
        if state not in _NEXT[self.state]:
            raise RunStateError(self.name, self.state, state)
        return replace(self, state=state)
