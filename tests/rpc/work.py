"""What a worker does, without a model: claims, writes blobs, hands in a manifest."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf import duration_pb2
from myosotis.digests import Digest
from myosotis.patches.manifest import PatchManifest
from myosotis.v1 import digest_pb2, unlearning_run_pb2, worker_service_pb2
from myosotis.validation.gate import GateResult, Verdict
from myosotis.validation.wire import gate_result_to_wire

PASSED = GateResult("", "unchanged", Verdict.PASS, 0.0, 0.0)


async def claim(
    workers: Any,  # noqa: ANN401 - a stub
    *,
    worker: str = "workers/w",
    wait: float = 5,
    models: tuple[str, ...] = ("models/petal",),
) -> unlearning_run_pb2.UnlearningRun | None:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(int(wait * 1000))
    answer = await workers.ClaimUnlearningRun(
        worker_service_pb2.ClaimUnlearningRunRequest(
            worker=worker, models=models, wait_duration=duration
        )
    )
    return answer.unlearning_run if answer.HasField("unlearning_run") else None


async def write(workers: Any, content: bytes, digest: Digest | None = None) -> Digest:  # noqa: ANN401 - a stub
    digest = digest or Digest.of(content)

    async def messages() -> AsyncIterator[worker_service_pb2.WriteBlobRequest]:
        address = digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)
        yield worker_service_pb2.WriteBlobRequest(digest=address)
        for start in range(0, len(content), 1000):
            yield worker_service_pb2.WriteBlobRequest(
                data=content[start : start + 1000]
            )

    await workers.WriteBlob(messages())
    return digest


def a_manifest(
    run: unlearning_run_pb2.UnlearningRun, **changed: object
) -> PatchManifest:
    usual: Mapping[str, Any] = {
        "model": run.plan.model,
        "base_digest": "b" * 64,
        "plan_digest": run.plan.digest,
        "policy_revision": run.policy_revision,
        "concepts": tuple(c.name for c in run.plan.concepts),
        "methods": {},
        "tensor_roots": {"F32": "c" * 64},
        "gate_results": (PASSED,),
    }
    return PatchManifest(**{**usual, **changed})


async def finish(
    workers: Any,  # noqa: ANN401 - a stub
    run: unlearning_run_pb2.UnlearningRun,
    **changed: object,
) -> unlearning_run_pb2.UnlearningRun:
    """Publish a patch for *run*."""
    content = a_manifest(run, **changed).to_bytes()
    digest = await write(workers, content)
    return await workers.FinishUnlearningRun(
        worker_service_pb2.FinishUnlearningRunRequest(
            unlearning_run=run.name,
            attempt=run.attempt,
            patch_manifest=digest_pb2.Digest(
                sha256=digest.sha256, size_bytes=digest.size_bytes
            ),
            gate_results=[gate_result_to_wire(PASSED)],
        )
    )
