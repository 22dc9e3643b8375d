"""What the unlearning stage needs of the world."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

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
