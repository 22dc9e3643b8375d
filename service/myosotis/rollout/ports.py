"""What the rollout stage needs of the world."""

from datetime import datetime
from typing import Protocol

from myosotis.rollout.generations import (
    Generation,
    InferenceServer,
    PublishedPatch,
)
from myosotis.unlearning.runs import UnlearningRun


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

    def touch(self, name: str, now: datetime) -> None:
        """Only its heartbeat. Raises NotFoundError."""
        ...

    def page(
        self, *, limit: int, after: str | None = None
    ) -> tuple[InferenceServer, ...]:
        """Servers by name, those after name *after*."""
        ...
