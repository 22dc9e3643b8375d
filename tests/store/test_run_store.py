import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from myosotis.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    NotFoundError,
)
from myosotis.rollout.ports import RunStore
from myosotis.store.memory import InMemoryRunStore
from myosotis.store.runs import SqlRunStore
from myosotis.unlearning.runs import RunProgress, RunState, UnlearningRun
from sqlalchemy import Engine, text

from tests.policy.builders import NOON
from tests.store.builders import JUDGED, MEASURED, MINUTE, PETAL, a_plan, a_run

LILY = "models/lily"


@pytest.fixture(params=["memory", "sql"])
def runs(request: pytest.FixtureRequest) -> RunStore:
    if request.param == "memory":
        return InMemoryRunStore()
    return SqlRunStore(request.getfixturevalue("engine"))


def claim(
    runs: RunStore, worker: str = "workers/w", *, now: timedelta = MINUTE
) -> UnlearningRun | None:
    return runs.claim(
        worker=worker, models=[PETAL], now=NOON + now, until=NOON + now + MINUTE
    )


def test_a_run_comes_back_as_it_was_added(runs: RunStore) -> None:
    run = a_run(not_before=NOON + MINUTE, policy_revision=7)
    runs.add(run)

    assert runs.get(run.name) == run


def test_every_field_of_a_run_is_kept(runs: RunStore) -> None:
    run = a_run()
    runs.add(run)
    running = run.claimed("workers/w", now=NOON, lease_until=NOON + MINUTE)
    runs.replace(run, running)
    progress = running.renewed(
        RunProgress("erase", 3, 10), lease_until=NOON + timedelta(microseconds=1)
    )
    runs.replace(running, progress)
    assert runs.get(run.name) == progress
    failed = progress.failed("no luck", now=NOON + 2 * MINUTE)
    runs.replace(progress, failed)
    assert runs.get(run.name) == failed


def test_an_unknown_run_is_not_found(runs: RunStore) -> None:
    for ask in (
        lambda: runs.get(a_run().name),
        lambda: runs.evidence(a_run().name),
        lambda: runs.record_evidence(a_run().name, MEASURED, JUDGED),
        lambda: runs.page(model=None, limit=1, before=a_run().name),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_a_second_run_of_the_same_name_is_refused(runs: RunStore) -> None:
    runs.add(a_run())

    with pytest.raises(AlreadyExistsError):
        runs.add(a_run(policy_revision=9))

    assert runs.get(a_run().name) == a_run()


def _claimed(run: UnlearningRun) -> UnlearningRun:
    return run.claimed("workers/w", now=NOON, lease_until=NOON)


@pytest.mark.parametrize(
    "stale",
    [
        lambda _: a_run(),
        lambda running: replace(running, attempt=2),
        lambda running: running.cancel_requested(now=NOON),
        lambda running: replace(running, name=f"{PETAL}/unlearningRuns/other"),
    ],
    ids=["state", "attempt", "cancelling", "unknown"],
)
def test_a_stale_replace_is_refused(
    runs: RunStore, stale: Callable[[UnlearningRun], UnlearningRun]
) -> None:
    runs.add(a_run())
    running = _claimed(a_run())
    runs.replace(a_run(), running)

    with pytest.raises(ConflictError):
        runs.replace(stale(running), running.succeeded("p", now=NOON))

    assert runs.get(running.name) == running


def test_runs_come_newest_first_and_in_pages(runs: RunStore) -> None:
    same_time = [a_run("b"), a_run("a"), a_run("c")]
    newest = a_run("0", create_time=NOON + MINUTE)
    other = a_run("z", plan=a_plan(model=LILY))
    for run in (newest, *same_time, other):
        runs.add(run)

    def ids(page: tuple[UnlearningRun, ...]) -> list[str]:
        return [run.name.rsplit("/", 1)[1] for run in page]

    first = runs.page(model=PETAL, limit=2)
    assert ids(first) == ["0", "c"]
    assert ids(runs.page(model=PETAL, limit=9, before=first[-1].name)) == ["b", "a"]
    assert ids(runs.page(model=None, limit=9)) == ["0", "c", "b", "a", "z"]


def test_the_newest_run_with_a_plan_is_found(runs: RunStore) -> None:
    plan = a_plan("pistol")
    runs.add(a_run("new", create_time=NOON + MINUTE))
    runs.add(a_run("old"))
    runs.add(a_run("other", plan=a_plan("knife"), create_time=NOON + 2 * MINUTE))

    found = runs.latest(PETAL, plan.digest)

    assert found is not None
    assert found.name.endswith("/new")
    assert runs.latest(PETAL, "f" * 64) is None
    assert runs.latest(LILY, plan.digest) is None


def test_unfinished_runs_come_oldest_first(runs: RunStore) -> None:
    runs.add(a_run("young", create_time=NOON + MINUTE))
    runs.add(a_run("old"))
    runs.add(a_run("other", plan=a_plan(model=LILY)))
    done = a_run("done")
    runs.add(done)
    runs.replace(done, done.cancelled(now=NOON))
    running = a_run("running", create_time=NOON + 2 * MINUTE)
    runs.add(running)
    runs.replace(running, _claimed(running))

    names = [run.name.rsplit("/", 1)[1] for run in runs.unfinished(PETAL)]

    assert names == ["old", "young", "running"]
    assert len(runs.unfinished()) == 4


def test_the_oldest_claimable_run_is_claimed_once(runs: RunStore) -> None:
    runs.add(a_run("young", create_time=NOON + MINUTE))
    runs.add(a_run("old"))

    first, second, third = claim(runs), claim(runs, "workers/v"), claim(runs)

    assert first is not None
    assert first.name.endswith("/old")
    assert (first.state, first.worker, first.attempt) == (
        RunState.RUNNING,
        "workers/w",
        1,
    )
    assert runs.get(first.name) == first
    assert second is not None
    assert second.name.endswith("/young")
    assert third is None


def test_a_run_is_claimable_only_when_its_time_has_come(runs: RunStore) -> None:
    runs.add(a_run(not_before=NOON + MINUTE))

    assert claim(runs, now=MINUTE - timedelta(microseconds=1)) is None
    assert claim(runs, now=MINUTE) is not None


def test_only_runs_of_the_asked_models_are_claimed(runs: RunStore) -> None:
    runs.add(a_run(plan=a_plan(model=LILY)))

    assert claim(runs) is None
    assert runs.claim(worker="workers/w", models=[], now=NOON, until=NOON) is None


def test_a_lost_run_is_claimed_again_with_the_next_attempt(runs: RunStore) -> None:
    runs.add(a_run())
    first = claim(runs)
    assert first is not None
    runs.replace(first, first.lost(now=NOON))

    again = claim(runs)

    assert again is not None
    assert again.attempt == 2


def test_evidence_replaces_what_was_there(runs: RunStore) -> None:
    runs.add(a_run())
    assert runs.evidence(a_run().name) == ((), ())

    runs.record_evidence(a_run().name, MEASURED, ())
    runs.record_evidence(a_run().name, MEASURED, JUDGED)

    assert runs.evidence(a_run().name) == (MEASURED, JUDGED)


def test_many_threads_claim_each_run_once(engine: Engine) -> None:
    runs = SqlRunStore(engine)
    for number in range(20):
        runs.add(a_run(f"r{number}"))
    start = threading.Barrier(8)

    def work(worker: int) -> list[str]:
        start.wait()
        claimed = []
        while (run := claim(runs, f"workers/w{worker}")) is not None:
            claimed.append(run.name)
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = [name for names in pool.map(work, range(8)) for name in names]

    assert sorted(claimed) == sorted(a_run(f"r{n}").name for n in range(20))


CLAIM_ALL = """
import sys
from datetime import UTC, datetime
from myosotis.store.database import connect
from myosotis.store.runs import SqlRunStore
runs = SqlRunStore(connect(sys.argv[1]))
now = datetime(2031, 1, 1, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
models = ["models/petal"]
while run := runs.claim(worker="workers/w", models=models, now=now, until=now):
    print(run.name)
"""


def test_two_processes_claim_each_run_once(engine: Engine) -> None:
    runs = SqlRunStore(engine)
    for number in range(40):
        runs.add(a_run(f"r{number}"))
    service = str(Path(__file__).parents[2] / "service")

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, str(engine.url)],
            env={"PYTHONPATH": service},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    claimed = [
        line for process in processes for line in process.communicate()[0].split()
    ]

    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(claimed) == sorted(a_run(f"r{n}").name for n in range(40))


@pytest.mark.parametrize(
    "damage",
    [
        "unlearning_runs SET state = 'SLEEPING'",
        "unlearning_runs SET create_time = '2030'",
        "unlearning_runs SET attempt = 'many'",
        "erasure_plans SET document = 'x'",
        "erasure_plans SET document = replace(document, 'pistol', 'kettle')",
    ],
)
def test_a_run_that_does_not_parse_is_corrupt(engine: Engine, damage: str) -> None:
    runs = SqlRunStore(engine)
    runs.add(a_run())
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {damage}"))

    with pytest.raises(IntegrityError) as corrupt:
        runs.get(a_run().name)

    assert corrupt.value.name == a_run().name
