"""The states of a run."""

from datetime import UTC, datetime, timedelta

import pytest
from myosotis.errors import RunStateError
from myosotis.policy.plans import ErasurePlan
from myosotis.unlearning.runs import RunProgress, RunState, UnlearningRun

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


def a_run() -> UnlearningRun:
    plan = ErasurePlan("models/petal", ())
    return UnlearningRun("models/petal/unlearningRuns/r", plan, 1, NOW, NOW)


def a_running_run() -> UnlearningRun:
    return a_run().claimed("workers/w", now=NOW, lease_until=LATER)


def test_a_queued_run_is_cancelled_at_once() -> None:
    run = a_run().cancel_requested(now=NOW)
    assert (run.state, run.end_time) == (RunState.CANCELLED, NOW)


def test_a_running_run_is_asked_to_stop_and_keeps_its_holder() -> None:
    run = a_running_run().cancel_requested(now=NOW)
    assert (run.state, run.worker) == (RunState.CANCELLING, "workers/w")
    assert run.cancel_requested(now=NOW) == run


def test_every_claim_is_another_attempt_and_keeps_the_first_start() -> None:
    run = a_running_run().lost(now=LATER)
    assert (run.state, run.worker, run.lease_expire_time) == (
        RunState.QUEUED,
        "",
        None,
    )
    again = run.claimed("workers/v", now=LATER, lease_until=LATER)
    assert (again.attempt, again.start_time) == (2, NOW)


def test_a_lost_run_that_was_to_stop_is_cancelled() -> None:
    run = a_running_run().cancel_requested(now=NOW).lost(now=LATER)
    assert run.state is RunState.CANCELLED


def test_a_run_may_succeed_although_it_was_asked_to_stop() -> None:
    run = a_running_run().cancel_requested(now=NOW).succeeded("p", now=LATER)
    assert (run.state, run.patch, run.worker) == (RunState.SUCCEEDED, "p", "")


def test_progress_needs_a_holder() -> None:
    with pytest.raises(RunStateError):
        a_run().renewed(RunProgress("erase", 1, 2), lease_until=LATER)


@pytest.mark.parametrize(
    "ended",
    [
        a_running_run().succeeded("p", now=NOW),
        a_running_run().failed("gate", now=NOW),
        a_run().cancelled(now=NOW),
    ],
)
def test_nothing_follows_the_end(ended: UnlearningRun) -> None:
    assert ended.state.ended
    for step in (
        lambda: ended.claimed("workers/w", now=NOW, lease_until=LATER),
        lambda: ended.cancel_requested(now=NOW),
        lambda: ended.failed("again", now=NOW),
        lambda: ended.succeeded("p", now=NOW),
    ):
        with pytest.raises(RunStateError):
            step()
