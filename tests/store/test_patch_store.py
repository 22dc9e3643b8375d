from dataclasses import dataclass

import pytest
from myosotis.errors import ConflictError, IntegrityError, NotFoundError
from myosotis.rollout.ports import PatchStore, RunStore
from myosotis.store.memory import InMemoryPatchStore, InMemoryRunStore
from myosotis.store.patches import SqlPatchStore
from myosotis.store.runs import SqlRunStore
from myosotis.unlearning.runs import UnlearningRun
from sqlalchemy import Engine, text

from tests.policy.builders import NOON
from tests.store.builders import PETAL, a_generation, a_patch, a_plan, a_run


@dataclass
class Stores:
    runs: RunStore
    patches: PatchStore

    def running(self, name: str = "r1") -> UnlearningRun:
        """A run that a worker holds."""
        run = a_run(name)
        self.runs.add(run)
        running = run.claimed("workers/w", now=NOON, lease_until=NOON)
        self.runs.replace(run, running)
        return running


@pytest.fixture(params=["memory", "sql"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "memory":
        runs = InMemoryRunStore()
        return Stores(runs, InMemoryPatchStore(runs))
    engine = request.getfixturevalue("engine")
    return Stores(SqlRunStore(engine), SqlPatchStore(engine))


def publish(stores: Stores, phrase: str = "pistol", *, minute: int = 0) -> str:
    running = stores.running(f"r-{phrase}")
    patch = a_patch(a_plan(phrase), minute=minute)
    stores.patches.publish(running, running.succeeded(patch.name, now=NOON), patch)
    return patch.name


def test_publishing_adds_the_patch_and_ends_the_run(stores: Stores) -> None:
    running, patch = stores.running(), a_patch()
    finished = running.succeeded(patch.name, now=NOON)

    stores.patches.publish(running, finished, patch)

    assert stores.patches.patch(patch.name) == patch
    assert stores.patches.find_patch(PETAL, a_plan().digest) == patch
    assert stores.runs.get(running.name) == finished


def test_a_worker_that_lost_its_run_publishes_nothing(stores: Stores) -> None:
    running, patch = stores.running(), a_patch()
    lost = running.lost(now=NOON)
    stores.runs.replace(running, lost)

    with pytest.raises(ConflictError):
        stores.patches.publish(running, running.succeeded("p", now=NOON), patch)

    assert stores.patches.find_patch(PETAL, a_plan().digest) is None
    assert stores.runs.get(running.name) == lost


def test_a_patch_that_is_published_again_stays_as_it_was(stores: Stores) -> None:
    publish(stores)
    again, later = stores.running("again"), a_patch(minute=5)
    finished = again.succeeded(later.name, now=NOON)

    stores.patches.publish(again, finished, later)

    assert stores.patches.patch(later.name) == a_patch()
    assert stores.runs.get(again.name) == finished


def test_patches_come_newest_first_and_in_pages(stores: Stores) -> None:
    old, middle, new = (
        publish(stores, phrase, minute=minute)
        for minute, phrase in enumerate(["pistol", "knife", "bomb"])
    )

    first = stores.patches.patches(PETAL, limit=2)

    assert [patch.name for patch in first] == [new, middle]
    rest = stores.patches.patches(PETAL, limit=2, before=middle)
    assert [patch.name for patch in rest] == [old]
    assert stores.patches.patches("models/lily", limit=2) == ()


def test_what_does_not_exist_is_not_found(stores: Stores) -> None:
    for ask in (
        lambda: stores.patches.patch(a_patch().name),
        lambda: stores.patches.generation(PETAL, 1),
        lambda: stores.patches.patches(PETAL, limit=1, before=a_patch().name),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_generations_count_up_from_one_for_each_model(stores: Stores) -> None:
    patches = stores.patches
    assert patches.current(PETAL) is None
    with pytest.raises(ConflictError):
        patches.add_generation(a_generation(2))

    patches.add_generation(a_generation(1))
    patches.add_generation(a_generation(1, "models/lily"))
    patches.add_generation(a_generation(2))

    for number in (1, 2, 4):
        with pytest.raises(ConflictError):
            patches.add_generation(a_generation(number))
    assert patches.current(PETAL) == a_generation(2)
    assert patches.generation(PETAL, 1) == a_generation(1)
    assert patches.current("models/lily") == a_generation(1, "models/lily")


def test_generations_come_newest_first_and_in_pages(stores: Stores) -> None:
    for number in (1, 2, 3):
        stores.patches.add_generation(a_generation(number))

    first = stores.patches.generations(PETAL, limit=2)

    assert [generation.number for generation in first] == [3, 2]
    rest = stores.patches.generations(PETAL, limit=2, before=2)
    assert [generation.number for generation in rest] == [1]


@pytest.mark.parametrize(
    "damage",
    [
        "patches SET manifest = 'x'",
        "patches SET manifest = replace(manifest, 'models/petal', 'models/lily')",
        "patches SET manifest_sha256 = 'x'",
        "patches SET create_time = 'x'",
    ],
)
def test_a_patch_that_does_not_parse_is_corrupt(engine: Engine, damage: str) -> None:
    stores = Stores(SqlRunStore(engine), SqlPatchStore(engine))
    name = publish(stores)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {damage}"))

    with pytest.raises(IntegrityError) as corrupt:
        stores.patches.patch(name)

    assert corrupt.value.name == name
