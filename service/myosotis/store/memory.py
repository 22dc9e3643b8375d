"""The stores in memory: for tests, and for whatever need not outlive its process.

The contract suites in ``tests/store`` run on these and on the SQL stores. Not for
several threads.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from myosotis.digests import Digest
from myosotis.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
)
from myosotis.policy.policies import PolicyRevision, Registry
from myosotis.policy.ports import PolicyChange
from myosotis.rollout.generations import Generation, InferenceServer, PublishedPatch
from myosotis.unlearning.runs import RunState, UnlearningRun
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement


class InMemoryPolicyStore:
    """Implements :class:`myosotis.policy.ports.PolicyStore`."""

    def __init__(self) -> None:
        self._revisions: list[PolicyRevision] = []

    def registry(self) -> Registry:
        latest = {r.policy_name: r for r in self._revisions}
        return Registry(
            len(self._revisions),
            tuple(latest[n] for n in sorted(latest) if latest[n].policy is not None),
        )

    def change(
        self, changes: Sequence[PolicyChange], *, expected_revision: int, now: datetime
    ) -> Registry:
        if len(self._revisions) != expected_revision:
            raise ConflictError("policies")
        for change in changes:
            known = {r.policy_name: r for r in self.registry().policies}
            before = known.get(change.name)
            self._revisions.append(
                PolicyRevision(
                    number=len(self._revisions) + 1,
                    policy_name=change.name,
                    policy=change.policy,
                    create_time=now,
                    source_file=change.source_file,
                    first_create_time=before.first_create_time if before else now,
                )
            )
        return self.registry()

    def revisions(
        self, policy_name: str, *, limit: int, before: int | None = None
    ) -> tuple[PolicyRevision, ...]:
        found = [
            revision
            for revision in reversed(self._revisions)
            if revision.policy_name == policy_name
            and (before is None or revision.number < before)
        ]
        return tuple(found[:limit])


class InMemoryRunStore:
    """Implements :class:`myosotis.rollout.ports.RunStore`."""

    def __init__(self) -> None:
        self._runs: dict[str, UnlearningRun] = {}
        self._evidence: dict[
            str, tuple[tuple[Measurement, ...], tuple[GateResult, ...]]
        ] = {}

    def get(self, name: str) -> UnlearningRun:
        if name not in self._runs:
            raise NotFoundError(name)
        return self._runs[name]

    def add(self, run: UnlearningRun) -> None:
        if run.name in self._runs:
            raise AlreadyExistsError(run.name)
        self._runs[run.name] = run

    def replace(self, old: UnlearningRun, new: UnlearningRun) -> None:
        stored = self._runs.get(old.name)
        if stored is None or (stored.state, stored.attempt) != (old.state, old.attempt):
            raise ConflictError(old.name)
        self._runs[old.name] = new

    def page(
        self, *, model: str | None, limit: int, before: str | None = None
    ) -> tuple[UnlearningRun, ...]:
        bound = None if before is None else _age(self.get(before))
        found = [
            run
            for run in reversed(self._oldest_first(model))
            if bound is None or _age(run) < bound
        ]
        return tuple(found[:limit])

    def latest(self, model: str, plan_digest: str) -> UnlearningRun | None:
        for run in reversed(self._oldest_first(model)):
            if run.plan.digest == plan_digest:
                return run
        return None

    def unfinished(self, model: str | None = None) -> tuple[UnlearningRun, ...]:
        return tuple(run for run in self._oldest_first(model) if not run.state.ended)

    def claim(
        self, *, worker: str, models: Collection[str], now: datetime, until: datetime
    ) -> UnlearningRun | None:
        for run in self._oldest_first(None):
            waits = run.state is RunState.QUEUED and run.not_before <= now
            if waits and run.plan.model in models:
                claimed = run.claimed(worker, now=now, lease_until=until)
                self.replace(run, claimed)
                return claimed
        return None

    def evidence(
        self, name: str
    ) -> tuple[tuple[Measurement, ...], tuple[GateResult, ...]]:
        self.get(name)
        return self._evidence.get(name, ((), ()))

    def record_evidence(
        self,
        name: str,
        measurements: tuple[Measurement, ...],
        results: tuple[GateResult, ...],
    ) -> None:
        self.get(name)
        self._evidence[name] = (measurements, results)

    def _oldest_first(self, model: str | None) -> list[UnlearningRun]:
        runs = [r for r in self._runs.values() if model in (None, r.plan.model)]
        return sorted(runs, key=_age)


class InMemoryPatchStore:
    """Implements :class:`myosotis.rollout.ports.PatchStore`, beside a run store."""

    def __init__(self, runs: InMemoryRunStore) -> None:
        self._runs = runs
        self._patches: dict[str, PublishedPatch] = {}
        self._generations: dict[str, list[Generation]] = {}

    def publish(
        self, run: UnlearningRun, finished: UnlearningRun, patch: PublishedPatch
    ) -> None:
        self._runs.replace(run, finished)
        self._patches.setdefault(patch.name, patch)

    def patch(self, name: str) -> PublishedPatch:
        if name not in self._patches:
            raise NotFoundError(name)
        return self._patches[name]

    def find_patch(self, model: str, plan_digest: str) -> PublishedPatch | None:
        return self._patches.get(f"{model}/patches/{plan_digest}")

    def patches(
        self, model: str, *, limit: int, before: str | None = None
    ) -> tuple[PublishedPatch, ...]:
        bound = None if before is None else _age(self.patch(before))
        found = [
            patch
            for patch in sorted(self._patches.values(), key=_age, reverse=True)
            if patch.manifest.model == model and (bound is None or _age(patch) < bound)
        ]
        return tuple(found[:limit])

    def current(self, model: str) -> Generation | None:
        generations = self._generations.get(model)
        return generations[-1] if generations else None

    def add_generation(self, generation: Generation) -> None:
        generations = self._generations.setdefault(generation.model, [])
        if generation.number != len(generations) + 1:
            raise ConflictError(generation.name)
        generations.append(generation)

    def generation(self, model: str, number: int) -> Generation:
        for generation in self._generations.get(model, ()):
            if generation.number == number:
                return generation
        raise NotFoundError(f"{model}/generations/{number}")

    def generations(
        self, model: str, *, limit: int, before: int | None = None
    ) -> tuple[Generation, ...]:
        found = [
            generation
            for generation in reversed(self._generations.get(model, ()))
            if before is None or generation.number < before
        ]
        return tuple(found[:limit])


class InMemoryServerStore:
    """Implements :class:`myosotis.rollout.ports.ServerStore`."""

    def __init__(self) -> None:
        self._servers: dict[str, InferenceServer] = {}

    def put(self, server: InferenceServer) -> None:
        self._servers[server.name] = server

    def page(
        self, *, limit: int, after: str | None = None
    ) -> tuple[InferenceServer, ...]:
        names = sorted(n for n in self._servers if after is None or n > after)
        return tuple(self._servers[name] for name in names[:limit])


class InMemoryBlobStore:
    """Implements :class:`myosotis.patches.ports.BlobStore`."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}

    def put(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        content = b"".join(chunks)
        if Digest.of(content) != digest:
            raise InvalidArgumentError("digest", "the content has another one")
        self._blobs[digest] = content

    def open(self, digest: Digest, *, offset: int = 0) -> Iterator[bytes]:
        if not 0 <= offset <= digest.size_bytes:
            raise InvalidArgumentError("read_offset", f"not within {digest.size_bytes}")
        if digest not in self._blobs:
            raise NotFoundError(f"blob {digest.sha256}")
        content = self._blobs[digest]
        size = 1 << 20
        return iter(
            [content[at : at + size] for at in range(offset, len(content), size)]
        )

    def has(self, digest: Digest) -> bool:
        return digest in self._blobs


def _age(item: UnlearningRun | PublishedPatch) -> tuple[datetime, str]:
    return item.create_time, item.name
