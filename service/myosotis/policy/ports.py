"""What the policy stage needs of the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from myosotis.policy.policies import Policy, PolicyRevision, Registry


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One change to the registry.

    Attributes:
        name: ``policies/{policy}``.
        policy: the new form; None deletes it.
        source_file: file in the policy folder that it comes from; empty for the API.
    """

    name: str
    policy: Policy | None
    source_file: str = ""


class PolicyStore(Protocol):
    """Keeps every revision of every policy."""

    def registry(self) -> Registry:
        """The latest revision of every policy, at one point in time."""
        ...

    def change(
        self, changes: Sequence[PolicyChange], *, expected_revision: int, now: datetime
    ) -> Registry:
        """Store all *changes* or none; each gets its own registry revision.

        Raises:
            ConflictError: when the registry is not at *expected_revision* any more.
        """
        ...

    def revisions(
        self, policy_name: str, *, limit: int, before: int | None = None
    ) -> tuple[PolicyRevision, ...]:
        """Revisions of one policy, newest first, those below number *before*."""
        ...
