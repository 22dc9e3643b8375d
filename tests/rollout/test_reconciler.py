"""What the reconciler decides, and where it ends up."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from myosotis.digests import Digest
from myosotis.patches.manifest import GenerationManifest, PatchManifest
from myosotis.policy.concepts import Category, Concept
from myosotis.policy.plans import ErasurePlan, desired_plans
from myosotis.policy.policies import Enforcement, Policy
from myosotis.policy.ports import PolicyChange
from myosotis.rollout.generations import PublishedPatch
from myosotis.rollout.reconciler import (
    CancelRun,
    Publish,
    Reconciler,
    Situation,
    StartRun,
    decide,
)
from myosotis.store.memory import (
    InMemoryBlobStore,
    InMemoryPatchStore,
    InMemoryPolicyStore,
    InMemoryRunStore,
)
from myosotis.unlearning.runs import RunState, UnlearningRun

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "models/petal"


def a_policy(
    *words: str, enforcement: Enforcement = Enforcement.ENFORCED, name: str = "arms"
) -> Policy:
    concepts = tuple(Concept(w, Category.HARMFUL, (w,)) for w in words)
    return Policy(f"policies/{name}", (MODEL,), concepts, enforcement=enforcement)


def a_plan(*words: str) -> ErasurePlan:
    return desired_plans(MODEL, [a_policy(*words)] if words else [])[0]


def a_run(plan: ErasurePlan, state: RunState, *, revision: int = 1) -> UnlearningRun:
    return UnlearningRun(
        "models/petal/unlearningRuns/r1", plan, revision, NOW, NOW, state=state
    )


def a_patch(plan: ErasurePlan) -> PublishedPatch:
    manifest = PatchManifest(
        model=MODEL,
        base_digest="b" * 64,
        plan_digest=plan.digest,
        policy_revision=1,
        concepts=tuple(c.name for c in plan.concepts),
        methods={},
        tensor_roots={},
    )
    return PublishedPatch(manifest, Digest.of(manifest.to_bytes()), NOW)


def a_situation(*plans: ErasurePlan, **known: object) -> Situation:
    usual = {
        "revision": 1,
        "current": None,
        "patches": {},
        "latest": {},
        "unfinished": (),
    }
    return Situation(plans=plans, **{**usual, **known})


def test_a_plan_without_patch_or_run_is_started() -> None:
    plan = a_plan("knife")
    assert decide(a_situation(plan)) == (StartRun(plan),)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_a_plan_that_is_worked_on_waits(state: RunState) -> None:
    plan = a_plan("knife")
    run = a_run(plan, state)
    situation = a_situation(plan, latest={plan.digest: run}, unfinished=(run,))
    assert decide(situation) == ()


def test_a_run_whose_plan_nobody_wants_is_cancelled() -> None:
    old, new = a_plan("knife"), a_plan("bomb")
    run = a_run(old, RunState.RUNNING)
    steps = decide(a_situation(new, unfinished=(run,)))
    assert steps == (CancelRun(run), StartRun(new))


def test_a_run_that_is_being_cancelled_is_left_alone() -> None:
    old, new = a_plan("knife"), a_plan("bomb")
    run = a_run(old, RunState.CANCELLING)
    assert decide(a_situation(new, unfinished=(run,))) == (StartRun(new),)


def test_a_plan_that_failed_is_not_tried_again() -> None:
    plan = a_plan("knife")
    run = a_run(plan, RunState.FAILED)
    assert decide(a_situation(plan, latest={plan.digest: run}, revision=9)) == ()


def test_a_cancelled_plan_waits_for_the_next_revision() -> None:
    plan = a_plan("knife")
    run = a_run(plan, RunState.CANCELLED, revision=3)
    known = {"latest": {plan.digest: run}}
    assert decide(a_situation(plan, revision=3, **known)) == ()
    assert decide(a_situation(plan, revision=4, **known)) == (StartRun(plan),)


def test_a_patch_of_the_enforced_plan_is_published() -> None:
    plan = a_plan("knife")
    patch = a_patch(plan)
    assert decide(a_situation(plan, patches={plan.digest: patch})) == (Publish(patch),)


def test_a_dry_run_is_measured_and_never_published() -> None:
    policies = [
        a_policy("knife"),
        a_policy("bomb", enforcement=Enforcement.DRY_RUN, name="trial"),
    ]
    enforced, dry = desired_plans(MODEL, policies)
    patches = {dry.digest: a_patch(dry)}
    assert decide(a_situation(enforced, dry, patches=patches)) == (StartRun(enforced),)
    assert [c.concept.id for c in dry.concepts] == ["knife", "bomb"]


def test_the_order_of_policies_does_not_change_the_plan() -> None:
    one, two = a_policy("knife", name="a"), a_policy("bomb", name="b")
    assert desired_plans(MODEL, [one, two]) == desired_plans(MODEL, [two, one])


def test_what_one_policy_bans_another_cannot_retain() -> None:
    keeper = Policy(
        "policies/kitchen",
        (MODEL,),
        (Concept("fork", Category.OBJECT, ("fork",), retain=("knife", "spoon")),),
    )
    (plan,) = desired_plans(MODEL, [a_policy("knife"), keeper])
    kept = {c.concept.id: c.concept.retain for c in plan.concepts}
    assert kept["fork"] == ("spoon",)


class World:
    """A reconciler over stores in memory, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOW
        self.policies = InMemoryPolicyStore()
        self.runs = InMemoryRunStore()
        self.patches = InMemoryPatchStore(self.runs)
        self.blobs = InMemoryBlobStore()
        ids = count(1)
        self.reconciler = Reconciler(
            policies=self.policies,
            runs=self.runs,
            patches=self.patches,
            blobs=self.blobs,
            now=lambda: self.now,
            new_id=lambda: f"r{next(ids)}",
            settle=timedelta(seconds=1),
        )

    def store(self, policy: Policy | None, name: str = "policies/arms") -> None:
        change = PolicyChange(name, policy)
        revision = self.policies.registry().revision
        self.policies.change([change], expected_revision=revision, now=self.now)

    def settle(self) -> None:
        """Reconcile until nothing is left to do."""
        for _ in range(20):
            if not self.reconciler.reconcile(MODEL):
                return
        raise AssertionError("it does not come to rest")

    def claim(self) -> UnlearningRun | None:
        self.now += timedelta(seconds=2)
        return self.runs.claim(
            worker="workers/w",
            models=[MODEL],
            now=self.now,
            until=self.now + timedelta(seconds=30),
        )

    def succeed(self, run: UnlearningRun) -> None:
        patch = a_patch(run.plan)
        finished = run.succeeded(patch.name, now=self.now)
        self.patches.publish(run, finished, patch)

    def work(self) -> None:
        """Claim one run and let it succeed."""
        run = self.claim()
        assert run is not None
        self.succeed(run)


def test_policies_that_arrive_together_become_one_run() -> None:
    world = World()
    for words in (["knife"], ["knife", "bomb"], ["knife", "bomb", "skull"]):
        world.store(a_policy(*words))
        world.settle()
    run = world.claim()
    assert run is not None
    assert len(run.plan.concepts) == 3
    assert world.claim() is None


def test_a_run_is_not_handed_out_before_it_has_settled() -> None:
    world = World()
    world.settle()
    early = world.runs.claim(
        worker="workers/w", models=[MODEL], now=world.now, until=world.now
    )
    assert early is None


def test_banning_and_taking_back_needs_one_run_each_and_no_more() -> None:
    world = World()
    world.settle()
    world.work()
    world.settle()
    world.store(a_policy("knife"))
    world.settle()
    world.work()
    world.settle()
    for policy in (None, a_policy("knife"), None):
        world.store(policy)
        world.settle()
    assert world.claim() is None
    numbers = [g.number for g in world.patches.generations(MODEL, limit=10)]
    assert numbers == [5, 4, 3, 2, 1]
    assert world.patches.current(MODEL).plan_digest == a_plan().digest


def test_a_generation_binds_its_patch_and_its_predecessor() -> None:
    world = World()
    world.settle()
    world.work()
    world.settle()
    world.store(a_policy("knife"))
    world.settle()
    world.work()
    world.settle()
    generation = world.patches.current(MODEL)
    content = b"".join(world.blobs.open(generation.manifest_digest))
    manifest = GenerationManifest.from_bytes(content)
    assert (manifest.generation, manifest.previous) == (2, 1)
    assert manifest.policy_revision == 1
    patch = world.patches.find_patch(MODEL, a_plan("knife").digest)
    assert manifest.patch_digest == patch.manifest_digest.sha256
    assert manifest.patch == patch.manifest


def test_the_run_of_a_silent_worker_comes_back_with_the_next_attempt() -> None:
    world = World()
    world.store(a_policy("knife"))
    world.settle()
    first = world.claim()
    world.now += timedelta(seconds=31)
    world.settle()
    second = world.claim()
    assert second.name == first.name
    assert (first.attempt, second.attempt) == (1, 2)


def test_a_worker_that_lost_its_lease_cannot_publish() -> None:
    world = World()
    world.store(a_policy("knife"))
    world.settle()
    first = world.claim()
    world.now += timedelta(seconds=31)
    world.settle()
    second = world.claim()
    world.succeed(second)
    with pytest.raises(Exception, match="changed by somebody else"):
        world.succeed(first)
    world.settle()
    assert len(world.patches.generations(MODEL, limit=10)) == 1


def test_a_ban_that_is_taken_back_while_it_runs_is_cancelled() -> None:
    world = World()
    world.store(a_policy("knife"))
    world.settle()
    run = world.claim()
    world.store(None)
    world.settle()
    assert world.runs.get(run.name).state is RunState.CANCELLING


def test_a_ban_that_comes_back_while_it_is_cancelled_runs_again() -> None:
    world = World()
    world.store(a_policy("knife"))
    world.settle()
    run = world.claim()
    world.store(None)
    world.settle()
    world.store(a_policy("knife"))
    world.settle()
    cancelling = world.runs.get(run.name)
    world.runs.replace(cancelling, cancelling.cancelled(now=world.now))
    world.settle()
    again = world.claim()
    assert again is not None
    assert again.plan == run.plan
