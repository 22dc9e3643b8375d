"""What the rollout stage needs of the world."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from myosotis.rollout.generations import (
    Generation,
    InferenceServer,
    PublishedPatch,
)
from myosotis.unlearning.runs import UnlearningRun
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement


class RunStore(Protocol):
    """Keeps unlearning runs. Reads see earlier writes."""

    def get(self, name: str) -> UnlearningRun:
        """Raises NotFoundError."""
        ...

    def add(self, run: UnlearningRun) -> None:
        """Raises AlreadyExistsError."""
        ...

    def replace(self, old: UnlearningRun, new: UnlearningRun) -> None:
        """Compare and swap on the state and attempt of *old*.

        Raises:
            ConflictError: when the stored run has another state or attempt.
        """
        ...

    def page(
        self, *, model: str | None, limit: int, before: str | None = None
    ) -> tuple[UnlearningRun, ...]:
        """Runs newest first (by creation, then name), those after run *before*.

        Raises:
            NotFoundError: no run *before*.
        """
        ...

    def latest(self, model: str, plan_digest: str) -> UnlearningRun | None:
        """The newest run with this plan."""
        ...

    def unfinished(self, model: str | None = None) -> tuple[UnlearningRun, ...]:
        """Every run that has not ended, oldest first."""
        ...

    def claim(
        self, *, worker: str, models: Collection[str], now: datetime, until: datetime
    ) -> UnlearningRun | None:
        """Hand the oldest claimable run of *models* to *worker*, in one transaction.

        Claimable is a QUEUED run whose ``not_before`` has come. At most one worker
        gets it.
        """
        ...

    def evidence(
        self, name: str
    ) -> tuple[tuple[Measurement, ...], tuple[GateResult, ...]]:
        """What was measured and judged in the run; empty before it ended.

        Raises:
            NotFoundError: no such run.
        """
        ...

    def record_evidence(
        self,
        name: str,
        measurements: tuple[Measurement, ...],
        results: tuple[GateResult, ...],
    ) -> None:
        """Keep what was measured and judged, in place of what was there.

        Raises:
            NotFoundError: no such run.
        """
        ...


class PatchStore(Protocol):
    """Keeps published patches and generations."""

    def publish(
        self, run: UnlearningRun, finished: UnlearningRun, patch: PublishedPatch
    ) -> None:
        """Add *patch* and replace *run* by *finished*, in one transaction.

        A patch with this name that exists already stays as it is.

        Raises:
            ConflictError: when the stored run has another state or attempt.
        """
        ...

    def patch(self, name: str) -> PublishedPatch:
        """Raises NotFoundError."""
        ...

    def find_patch(self, model: str, plan_digest: str) -> PublishedPatch | None:
        """The patch with this plan."""
        ...

    def patches(
        self, model: str, *, limit: int, before: str | None = None
    ) -> tuple[PublishedPatch, ...]:
        """Patches of a model, newest first, those after patch *before*.

        Raises:
            NotFoundError: no patch *before*.
        """
        ...

    def current(self, model: str) -> Generation | None:
        """The newest generation of a model."""
        ...

    def add_generation(self, generation: Generation) -> None:
        """Add the next generation of its model.

        Raises:
            ConflictError: when it is not one more than the current number.
        """
        ...

    def generation(self, model: str, number: int) -> Generation:
        """Raises NotFoundError."""
        ...

    def generations(
        self, model: str, *, limit: int, before: int | None = None
    ) -> tuple[Generation, ...]:
        """Generations of a model, newest first, those below number *before*."""
        ...


class ServerStore(Protocol):
    """Keeps what inference servers last said."""

    def put(self, server: InferenceServer) -> None:
        """Store it in place of what it said before."""
        ...

    def page(
        self, *, limit: int, after: str | None = None
    ) -> tuple[InferenceServer, ...]:
        """Servers by name, those after name *after*."""
        ...
