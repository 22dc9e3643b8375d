"""WorkerService: hands runs to workers, and takes their results."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta

import grpc.aio
from google.protobuf import duration_pb2

from myosotis import names
from myosotis.digests import Digest
from myosotis.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PatchRefusedError,
    PreconditionError,
)
from myosotis.patches.manifest import PatchManifest
from myosotis.patches.ports import BlobStore
from myosotis.rollout.generations import PublishedPatch
from myosotis.rollout.ports import PatchStore, RunStore
from myosotis.rpc.changes import Changes, settled
from myosotis.rpc.wire import digest_from_wire, progress_from_wire, run_to_wire
from myosotis.unlearning.runs import RunState, UnlearningRun
from myosotis.v1 import (
    digest_pb2,
    unlearning_run_pb2,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from myosotis.validation.gate import passed, refusal
from myosotis.validation.wire import gate_result_from_wire, measurement_from_wire

MAX_WAIT_SECONDS = 30.0
MAX_BLOB_BYTES = 8 * 1024**3
_LOOK_AGAIN_SECONDS = 0.25


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """The side of the run queue that workers see."""

    def __init__(  # noqa: PLR0913 - its ports
        self,
        *,
        runs: RunStore,
        patches: PatchStore,
        blobs: BlobStore,
        changes: Changes,
        now: Callable[[], datetime],
        lease: timedelta,
    ) -> None:
        self._runs = runs
        self._patches = patches
        self._blobs = blobs
        self._changes = changes
        self._now = now
        self._lease = lease

    async def ClaimUnlearningRun(
        self,
        request: worker_service_pb2.ClaimUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> worker_service_pb2.ClaimUnlearningRunResponse:
        names.parse("worker", request.worker, field="worker")
        if not request.models:
            raise InvalidArgumentError("models", "name at least one")
        for index, model in enumerate(request.models):
            names.parse("model", model, field=f"models[{index}]")
        wait = request.wait_duration.ToTimedelta().total_seconds()
        if not 0 <= wait <= MAX_WAIT_SECONDS:
            raise InvalidArgumentError(
                "wait_duration", f"not between 0 and {MAX_WAIT_SECONDS:g} s"
            )
        await asyncio.to_thread(self._take_back, request.worker)
        run = await self._wait_for_run(request.worker, list(request.models), wait)
        if run is not None:
            self._changes.announce()
        lease = duration_pb2.Duration()
        lease.FromTimedelta(self._lease)
        return worker_service_pb2.ClaimUnlearningRunResponse(
            unlearning_run=run_to_wire(run) if run is not None else None,
            lease_duration=lease,
        )

    async def RenewLease(
        self,
        request: worker_service_pb2.RenewLeaseRequest,
        context: grpc.aio.ServicerContext,
    ) -> worker_service_pb2.RenewLeaseResponse:
        run = await asyncio.to_thread(self._renew, request)
        return worker_service_pb2.RenewLeaseResponse(
            cancel_requested=run.state is RunState.CANCELLING
        )

    async def WriteBlob(
        self,
        request_iterator: AsyncIterator[worker_service_pb2.WriteBlobRequest],
        context: grpc.aio.ServicerContext,
    ) -> worker_service_pb2.WriteBlobResponse:
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("digest"):
            raise InvalidArgumentError("digest", "missing in the first message")
        digest = digest_from_wire(first.digest, field="digest")
        if digest.size_bytes > MAX_BLOB_BYTES:
            raise InvalidArgumentError("digest.size_bytes", f"over {MAX_BLOB_BYTES}")
        # Bounded, so that a fast sender waits for the disk and not in memory.
        chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=8)
        storing = asyncio.create_task(
            asyncio.to_thread(self._blobs.put, digest, _drained(chunks))
        )
        try:
            await _feed(chunks, first.data, storing)
            async for message in request_iterator:
                await _feed(chunks, message.data, storing)
            await _feed(chunks, None, storing)
        finally:
            if not storing.done():
                await asyncio.to_thread(chunks.put, None)
            await asyncio.wait([storing])
        await storing
        return worker_service_pb2.WriteBlobResponse(
            digest=digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)
        )

    async def FinishUnlearningRun(
        self,
        request: worker_service_pb2.FinishUnlearningRunRequest,
        context: grpc.aio.ServicerContext,
    ) -> unlearning_run_pb2.UnlearningRun:
        run = await asyncio.to_thread(self._finish, request)
        self._changes.announce()
        return run_to_wire(run)

    async def _wait_for_run(
        self, worker: str, models: list[str], seconds: float
    ) -> UnlearningRun | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            upcoming = self._changes.upcoming()
            now = self._now()
            run = await asyncio.to_thread(
                self._runs.claim,
                worker=worker,
                models=models,
                now=now,
                until=now + self._lease,
            )
            left = deadline - loop.time()
            if run is not None or left <= 0:
                return run
            await settled(upcoming, seconds=min(left, _LOOK_AGAIN_SECONDS))

    def _take_back(self, worker: str) -> None:
        now = self._now()
        for run in self._runs.unfinished():
            if run.worker == worker:
                try:
                    self._runs.replace(run, run.lost(now=now))
                except ConflictError:
                    continue  # the reconciler was faster

    def _held(self, name: str, attempt: int) -> UnlearningRun:
        """The run, if it is still in the hands of that attempt."""
        names.parse("run", name, field="unlearning_run")
        run = self._runs.get(name)
        if run.attempt != attempt or run.state not in (
            RunState.RUNNING,
            RunState.CANCELLING,
        ):
            raise ConflictError(name)
        return run

    def _renew(self, request: worker_service_pb2.RenewLeaseRequest) -> UnlearningRun:
        progress = progress_from_wire(request.progress)
        run = self._held(request.unlearning_run, request.attempt)
        renewed = run.renewed(progress, lease_until=self._now() + self._lease)
        self._runs.replace(run, renewed)
        return renewed

    def _finish(
        self, request: worker_service_pb2.FinishUnlearningRunRequest
    ) -> UnlearningRun:
        done = self._repeated(request)
        if done is not None:
            return done
        run = self._held(request.unlearning_run, request.attempt)
        now = self._now()
        measurements = tuple(measurement_from_wire(m) for m in request.measurements)
        results = tuple(gate_result_from_wire(r) for r in request.gate_results)
        match request.WhichOneof("outcome"):
            case "patch_manifest":
                if not passed(results):
                    raise InvalidArgumentError(
                        "gate_results", refusal(results) or "none given"
                    )
                patch = self._patch(request, run, now)
                self._runs.record_evidence(run.name, measurements, results)
                finished = run.succeeded(patch.name, now=now)
                self._patches.publish(run, finished, patch)
                return finished
            case "failure":
                finished = run.failed(request.failure[:2000], now=now)
            case "cancelled":
                finished = run.cancelled(now=now)
            case _:
                raise InvalidArgumentError("outcome", "missing")
        self._runs.record_evidence(run.name, measurements, results)
        self._runs.replace(run, finished)
        return finished

    def _repeated(
        self, request: worker_service_pb2.FinishUnlearningRunRequest
    ) -> UnlearningRun | None:
        """The run, where this very attempt has ended it before."""
        names.parse("run", request.unlearning_run, field="unlearning_run")
        run = self._runs.get(request.unlearning_run)
        return run if run.state.ended and run.attempt == request.attempt else None

    def _patch(
        self,
        request: worker_service_pb2.FinishUnlearningRunRequest,
        run: UnlearningRun,
        now: datetime,
    ) -> PublishedPatch:
        """The patch that a worker wrote, if it is one for this run's plan."""
        digest = digest_from_wire(request.patch_manifest, field="patch_manifest")
        try:
            content = b"".join(self._blobs.open(digest))
            manifest = PatchManifest.from_bytes(content)
        except NotFoundError as error:
            raise PreconditionError(f"the manifest {digest} was not written") from error
        except PatchRefusedError as error:
            raise InvalidArgumentError("patch_manifest", error.detail) from error
        if (manifest.model, manifest.plan_digest) != (run.plan.model, run.plan.digest):
            raise InvalidArgumentError("patch_manifest", "made for another plan")
        if not passed(manifest.gate_results):
            raise InvalidArgumentError("patch_manifest", "its gate did not pass")
        file: Digest | None = manifest.tensor_file
        if file is not None and not self._blobs.has(file):
            raise PreconditionError(f"the tensor file {file} was not written")
        return PublishedPatch(manifest, digest, now)


async def _feed(
    chunks: "queue.Queue[bytes | None]", data: bytes | None, storing: asyncio.Task[None]
) -> None:
    """Hand *data* on, unless the store has given up."""
    while not storing.done():
        try:
            chunks.put_nowait(data)
        except queue.Full:
            await asyncio.sleep(0.005)
        else:
            return
    storing.result()


def _drained(chunks: "queue.Queue[bytes | None]") -> Iterator[bytes]:
    while (data := chunks.get()) is not None:
        yield data
