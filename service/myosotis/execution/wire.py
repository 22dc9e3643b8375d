"""Messages between worker and control plane. Pure and total."""

from myosotis.errors import InvalidArgumentError
from myosotis.policy.plans import ErasurePlan, PlannedConcept
from myosotis.policy.policies import Enforcement
from myosotis.policy.wire import concept_from_wire
from myosotis.unlearning.runs import RunProgress
from myosotis.v1 import policy_pb2, unlearning_run_pb2


def plan_from_wire(message: unlearning_run_pb2.ErasurePlan) -> ErasurePlan:
    """The plan of a run.

    Raises:
        InvalidArgumentError: it is not the plan that its digest says, as when the two
            processes are of different versions.
    """
    plan = ErasurePlan(
        model=message.model,
        concepts=tuple(
            PlannedConcept(item.name, concept_from_wire(item.concept))
            for item in message.concepts
        ),
        enforcement=Enforcement(
            policy_pb2.Policy.Enforcement.Name(message.enforcement)
        ),
    )
    if plan.digest != message.digest:
        raise InvalidArgumentError("plan.digest", "the plan reads differently here")
    return plan


def progress_to_wire(progress: RunProgress) -> unlearning_run_pb2.RunProgress:
    """How far a run is, as a message."""
    return unlearning_run_pb2.RunProgress(
        phase=progress.phase,
        done_steps=progress.done_steps,
        total_steps=progress.total_steps,
    )
