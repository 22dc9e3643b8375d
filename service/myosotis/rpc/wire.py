"""Values of the stages to messages, and back where workers send them. Pure."""

from datetime import datetime

from google.protobuf import timestamp_pb2

from myosotis.digests import Digest
from myosotis.errors import InvalidArgumentError
from myosotis.policy.plans import ErasurePlan
from myosotis.policy.wire import concept_to_wire
from myosotis.rollout.generations import Generation, InferenceServer, PublishedPatch
from myosotis.unlearning.runs import RunProgress, UnlearningRun
from myosotis.v1 import (
    digest_pb2,
    fleet_service_pb2,
    patch_pb2,
    policy_pb2,
    unlearning_run_pb2,
    weight_delivery_service_pb2,
)
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement
from myosotis.validation.wire import gate_result_to_wire, measurement_to_wire


def timestamp_to_wire(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """An aware time as a message; None stays unset."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def digest_to_wire(digest: Digest | None) -> digest_pb2.Digest | None:
    if digest is None:
        return None
    return digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)


def digest_from_wire(message: digest_pb2.Digest, *, field: str) -> Digest:
    """Raises InvalidArgumentError naming *field*."""
    try:
        return Digest(message.sha256, message.size_bytes)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{field}.{error.field}", error.problem) from error


def plan_to_wire(plan: ErasurePlan) -> unlearning_run_pb2.ErasurePlan:
    return unlearning_run_pb2.ErasurePlan(
        model=plan.model,
        concepts=[
            unlearning_run_pb2.PlannedConcept(
                name=item.name, concept=concept_to_wire(item.concept)
            )
            for item in plan.concepts
        ],
        enforcement=policy_pb2.Policy.Enforcement.Value(plan.enforcement),
        digest=plan.digest,
    )


def run_to_wire(
    run: UnlearningRun,
    measurements: tuple[Measurement, ...] = (),
    results: tuple[GateResult, ...] = (),
) -> unlearning_run_pb2.UnlearningRun:
    return unlearning_run_pb2.UnlearningRun(
        name=run.name,
        state=unlearning_run_pb2.UnlearningRun.State.Value(run.state),
        plan=plan_to_wire(run.plan),
        policy_revision=run.policy_revision,
        attempt=run.attempt,
        worker=run.worker,
        progress=unlearning_run_pb2.RunProgress(
            phase=run.progress.phase,
            done_steps=run.progress.done_steps,
            total_steps=run.progress.total_steps,
        ),
        measurements=[measurement_to_wire(m) for m in measurements],
        gate_results=[gate_result_to_wire(r) for r in results],
        patch=run.patch,
        failure=run.failure,
        create_time=timestamp_to_wire(run.create_time),
        start_time=timestamp_to_wire(run.start_time),
        end_time=timestamp_to_wire(run.end_time),
    )


def progress_from_wire(message: unlearning_run_pb2.RunProgress) -> RunProgress:
    """Raises InvalidArgumentError for negative steps or a phase over 100 characters."""
    if message.done_steps < 0 or message.total_steps < 0:
        raise InvalidArgumentError("progress", "steps are negative")
    if len(message.phase) > 100:  # noqa: PLR2004 - a label, no text
        raise InvalidArgumentError("progress.phase", "longer than 100 characters")
    return RunProgress(message.phase, message.done_steps, message.total_steps)


def patch_to_wire(patch: PublishedPatch) -> patch_pb2.Patch:
    manifest = patch.manifest
    return patch_pb2.Patch(
        name=patch.name,
        manifest=digest_to_wire(patch.manifest_digest),
        tensor_file=digest_to_wire(manifest.tensor_file),
        concepts=manifest.concepts,
        unlearning_run=manifest.unlearning_run,
        measurements=[measurement_to_wire(m) for m in manifest.measurements],
        gate_results=[gate_result_to_wire(r) for r in manifest.gate_results],
        create_time=timestamp_to_wire(patch.create_time),
    )


def generation_to_wire(
    generation: Generation, concepts: tuple[str, ...]
) -> patch_pb2.Generation:
    return patch_pb2.Generation(
        name=generation.name,
        patch=generation.patch,
        policy_revision=generation.policy_revision,
        manifest=digest_to_wire(generation.manifest_digest),
        create_time=timestamp_to_wire(generation.create_time),
        concepts=concepts,
    )


def server_to_wire(
    server: InferenceServer, state: str, desired: int
) -> fleet_service_pb2.InferenceServer:
    message = fleet_service_pb2.InferenceServer(
        name=server.name,
        model=server.model,
        state=fleet_service_pb2.InferenceServer.State.Value(state),
        active_generation=server.active_generation,
        desired_generation=desired,
        tensor_root=server.tensor_root,
        address=server.address,
        heartbeat_time=timestamp_to_wire(server.heartbeat_time),
    )
    if server.refusal is not None:
        message.last_refusal.CopyFrom(
            weight_delivery_service_pb2.Refusal(
                generation=server.refusal.generation,
                reason=weight_delivery_service_pb2.Refusal.Reason.Value(
                    server.refusal.reason
                ),
                detail=server.refusal.detail,
                active_generation=server.active_generation,
            )
        )
    return message
