"""The reconciler: whatever policies ask for and servers do not do is work.

Level-triggered: it looks at the whole state each time, so that a process that is killed
at any point converges after it is started again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from myosotis.digests import Digest
from myosotis.errors import ConflictError
from myosotis.patches.manifest import GenerationManifest
from myosotis.patches.ports import BlobStore
from myosotis.policy.plans import ErasurePlan, desired_plans
from myosotis.policy.policies import Enforcement
from myosotis.policy.ports import PolicyStore
from myosotis.rollout.generations import Generation, PublishedPatch
from myosotis.rollout.ports import PatchStore, RunStore
from myosotis.unlearning.runs import RunState, UnlearningRun


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision about one model depends on.

    Attributes:
        revision: registry revision.
        plans: what the policies ask of the model.
        current: the generation to serve; None before the first.
        patches: published patches of those plans, by plan digest.
        latest: the newest run of each plan, by plan digest.
        unfinished: every run of the model that has not ended.
    """

    revision: int
    plans: tuple[ErasurePlan, ...]
    current: Generation | None
    patches: Mapping[str, PublishedPatch]
    latest: Mapping[str, UnlearningRun]
    unfinished: tuple[UnlearningRun, ...]


@dataclass(frozen=True, slots=True)
class StartRun:
    """No patch for a plan, and nobody works on one."""

    plan: ErasurePlan


@dataclass(frozen=True, slots=True)
class CancelRun:
    """A run whose plan nobody asks for any more."""

    run: UnlearningRun


@dataclass(frozen=True, slots=True)
class Publish:
    """A patch that should be served and is not."""

    patch: PublishedPatch


Step = StartRun | CancelRun | Publish


def decide(situation: Situation) -> tuple[Step, ...]:
    """What has to be done now; empty when the state is as desired."""
    wanted = {plan.digest for plan in situation.plans}
    steps: list[Step] = [
        CancelRun(run)
        for run in situation.unfinished
        if run.plan.digest not in wanted and run.state is not RunState.CANCELLING
    ]
    for plan in situation.plans:
        patch = situation.patches.get(plan.digest)
        if patch is None:
            if _may_start(situation.latest.get(plan.digest), situation.revision):
                steps.append(StartRun(plan))
        elif plan.enforcement is Enforcement.ENFORCED and (
            situation.current is None or situation.current.plan_digest != plan.digest
        ):
            steps.append(Publish(patch))
    return tuple(steps)


def _may_start(latest: UnlearningRun | None, revision: int) -> bool:
    """Whether a plan deserves a new run, given its newest one.

    One that failed would fail again: it waits for `run retry`, or for a policy that
    asks for something else. One that was cancelled waits for the next revision.
    """
    if latest is None:
        return True
    return latest.state is RunState.CANCELLED and latest.policy_revision < revision


class Reconciler:
    """Carries out what :func:`decide` says, one model at a time."""

    def __init__(  # noqa: PLR0913 - its ports
        self,
        *,
        policies: PolicyStore,
        runs: RunStore,
        patches: PatchStore,
        blobs: BlobStore,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        settle: timedelta,
    ) -> None:
        """Work on the given stores.

        Args:
            policies: what is asked for.
            runs: what is being done.
            patches: what has been done, and what is served.
            blobs: where manifests are kept.
            now: the time, UTC.
            new_id: a fresh resource id.
            settle: how long a new run waits for more policies before it may start.
        """
        self._policies = policies
        self._runs = runs
        self._patches = patches
        self._blobs = blobs
        self._now = now
        self._new_id = new_id
        self._settle = settle

    def reconcile(self, model: str) -> bool:
        """Take every step that is due for *model*; whether there was one.

        A step that somebody else took meanwhile is left to the next round.
        """
        self._reclaim(model)
        steps = decide(self._situation(model))
        for step in steps:
            try:
                self._take(step)
            except ConflictError:
                continue
        return bool(steps)

    def new_run(self, plan: ErasurePlan, revision: int) -> UnlearningRun:
        """Queue a run for *plan*."""
        now = self._now()
        run = UnlearningRun(
            name=f"{plan.model}/unlearningRuns/{self._new_id()}",
            plan=plan,
            policy_revision=revision,
            create_time=now,
            not_before=now + self._settle,
        )
        self._runs.add(run)
        return run

    def _situation(self, model: str) -> Situation:
        registry = self._policies.registry()
        plans = desired_plans(model, registry)
        digests = [plan.digest for plan in plans]
        patches = {d: self._patches.find_patch(model, d) for d in digests}
        latest = {d: self._runs.latest(model, d) for d in digests}
        return Situation(
            revision=registry.revision,
            plans=plans,
            current=self._patches.current(model),
            patches={d: patch for d, patch in patches.items() if patch is not None},
            latest={d: run for d, run in latest.items() if run is not None},
            unfinished=self._runs.unfinished(model),
        )

    def _take(self, step: Step) -> None:
        match step:
            case StartRun(plan):
                self.new_run(plan, self._policies.registry().revision)
            case CancelRun(run):
                self._runs.replace(run, run.cancel_requested(now=self._now()))
            case Publish(patch):
                self._publish(patch)

    def _publish(self, patch: PublishedPatch) -> None:
        model = patch.manifest.model
        current = self._patches.current(model)
        previous = current.number if current is not None else 0
        now = self._now()
        revision = self._policies.registry().revision
        manifest = GenerationManifest(
            model=model,
            generation=previous + 1,
            policy_revision=revision,
            patch_digest=patch.manifest_digest.sha256,
            patch=patch.manifest,
            previous=previous,
            created_at=now.isoformat(),
        ).to_bytes()
        digest = Digest.of(manifest)
        self._blobs.put(digest, [manifest])
        self._patches.add_generation(
            Generation(
                model=model,
                number=previous + 1,
                plan_digest=patch.manifest.plan_digest,
                policy_revision=revision,
                manifest_digest=digest,
                create_time=now,
            )
        )

    def _reclaim(self, model: str) -> None:
        """Take back the runs of workers that were not heard in time."""
        now = self._now()
        for run in self._runs.unfinished(model):
            if run.lease_expire_time is not None and run.lease_expire_time < now:
                try:
                    self._runs.replace(run, run.lost(now=now))
                except ConflictError:
                    continue  # the worker came back in the last moment
