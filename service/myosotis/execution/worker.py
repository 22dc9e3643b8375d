"""A worker: claims runs from the control plane and carries them out, one at a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import grpc.aio
import structlog
from google.protobuf import duration_pb2

from myosotis.digests import Digest
from myosotis.errors import ConflictError, MyosotisError, UnavailableError
from myosotis.execution.wire import plan_from_wire, progress_to_wire
from myosotis.policy.plans import ErasurePlan
from myosotis.transport.blobs import chunked
from myosotis.transport.errors import from_rpc_error
from myosotis.unlearning.cancellation import CancelledWorkError
from myosotis.unlearning.runs import RunProgress
from myosotis.v1 import (
    digest_pb2,
    unlearning_run_pb2,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement
from myosotis.validation.wire import gate_result_to_wire, measurement_to_wire

_log = structlog.get_logger(__name__)

_WAIT_SECONDS = 20
_RETRY_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a worker is asked to do.

    Attributes:
        name: of the run.
        plan: what to forget.
        policy_revision: registry revision that asked for it.
        on_progress: may be called from any thread.
        cancelled: whether to stop; asked from any thread.
    """

    name: str
    plan: ErasurePlan
    policy_revision: int
    on_progress: Callable[[RunProgress], None]
    cancelled: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How an attempt ended.

    Attributes:
        manifest: the patch manifest's exact bytes; empty when the gate refused.
        tensor_file: the patch's tensors; empty when none changes.
        refusal: why there is no patch, in one line; empty when there is one.
        measurements: what was measured.
        gate_results: what the gate said.
    """

    manifest: bytes
    tensor_file: bytes
    refusal: str
    measurements: tuple[Measurement, ...]
    gate_results: tuple[GateResult, ...]


@dataclass(slots=True)
class _Held:
    """A run in this worker's hands."""

    message: unlearning_run_pb2.UnlearningRun
    lease_seconds: float
    progress: RunProgress = field(default_factory=RunProgress)
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False


class Worker:
    """Claims, carries out, and hands in."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        name: str,
        models: tuple[str, ...],
        attempt: Callable[[RunRequest], RunResult],
    ) -> None:
        """Work for the control plane behind *channel*.

        Args:
            channel: to the control plane.
            name: ``workers/{worker}``, the same after a restart.
            models: names of the models that it can load.
            attempt: carries out one run; called in a thread of its own.
        """
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self._name = name
        self._models = models
        self._attempt = attempt

    async def work(self) -> None:
        """Take runs until cancelled. A control plane that is away is waited for."""
        while True:
            try:
                held = await self._claim()
            except UnavailableError as error:
                _log.warning("control plane is away", problem=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if held is not None:
                await self._carry_out(held)

    async def _claim(self) -> _Held | None:
        request = worker_service_pb2.ClaimUnlearningRunRequest(
            worker=self._name,
            models=self._models,
            wait_duration=duration_pb2.Duration(seconds=_WAIT_SECONDS),
        )
        try:
            answer = await self._stub.ClaimUnlearningRun(
                request, timeout=_WAIT_SECONDS + 10
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="control plane") from error
        if not answer.HasField("unlearning_run"):
            return None
        lease = answer.lease_duration.ToTimedelta().total_seconds()
        return _Held(answer.unlearning_run, lease)

    async def _carry_out(self, held: _Held) -> None:
        run = held.message
        _log.info("run claimed", run=run.name, attempt=run.attempt)
        renewing = asyncio.create_task(self._renew(held))
        try:
            finish = await self._outcome(held)
        except asyncio.CancelledError:
            held.stop.set()
            raise
        finally:
            renewing.cancel()
        if held.lost:
            _log.warning("run lost", run=run.name, attempt=run.attempt)
            return
        finish.unlearning_run = run.name
        finish.attempt = run.attempt
        await self._hand_in(finish)
        _log.info("run ended", run=run.name, outcome=finish.WhichOneof("outcome"))

    async def _outcome(
        self, held: _Held
    ) -> worker_service_pb2.FinishUnlearningRunRequest:
        """Carry the run out; whatever goes wrong with it is its failure."""

        def report(progress: RunProgress) -> None:
            held.progress = progress

        finish = worker_service_pb2.FinishUnlearningRunRequest
        try:
            request = RunRequest(
                name=held.message.name,
                plan=plan_from_wire(held.message.plan),
                policy_revision=held.message.policy_revision,
                on_progress=report,
                cancelled=held.stop.is_set,
            )
            result = await asyncio.to_thread(self._attempt, request)
            if held.lost:
                return finish(cancelled=True)
            return await self._written(result)
        except CancelledWorkError:
            return finish(cancelled=True)
        except MyosotisError as error:
            return finish(failure=str(error))
        except Exception as error:  # noqa: BLE001 - one bad run must not end the worker
            _log.error("defect", run=held.message.name, exc_info=error)
            return finish(failure=f"defect: {type(error).__name__}: {error}")

    async def _written(
        self, result: RunResult
    ) -> worker_service_pb2.FinishUnlearningRunRequest:
        """The result as a message, its blobs stored."""
        finish = worker_service_pb2.FinishUnlearningRunRequest(
            measurements=[measurement_to_wire(m) for m in result.measurements],
            gate_results=[gate_result_to_wire(r) for r in result.gate_results],
        )
        if result.refusal:
            finish.failure = result.refusal
            return finish
        if result.tensor_file:
            await self._patiently(lambda: self._write_blob(result.tensor_file))
        manifest = Digest.of(result.manifest)
        await self._patiently(lambda: self._write_blob(result.manifest))
        finish.patch_manifest.sha256 = manifest.sha256
        finish.patch_manifest.size_bytes = manifest.size_bytes
        return finish

    async def _write_blob(self, content: bytes) -> None:
        digest = Digest.of(content)

        async def messages() -> AsyncIterator[worker_service_pb2.WriteBlobRequest]:
            first = digest_pb2.Digest(
                sha256=digest.sha256, size_bytes=digest.size_bytes
            )
            for index, data in enumerate(chunked(content)):
                yield worker_service_pb2.WriteBlobRequest(
                    digest=first if index == 0 else None, data=data
                )

        await self._stub.WriteBlob(messages())

    async def _hand_in(
        self, finish: worker_service_pb2.FinishUnlearningRunRequest
    ) -> None:
        try:
            await self._patiently(lambda: self._stub.FinishUnlearningRun(finish))
        except ConflictError:
            _log.warning("run lost at its end", run=finish.unlearning_run)
        except MyosotisError as error:
            _log.error("result refused", run=finish.unlearning_run, problem=str(error))
            failure = worker_service_pb2.FinishUnlearningRunRequest(
                unlearning_run=finish.unlearning_run,
                attempt=finish.attempt,
                failure=f"the result was refused: {error}",
            )
            await self._patiently(lambda: self._stub.FinishUnlearningRun(failure))

    async def _patiently(self, call: Callable[[], Awaitable[object]]) -> None:
        """Call until the control plane answers; other errors are raised."""
        pause = _RETRY_SECONDS
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as raw:
                error = from_rpc_error(raw, service="control plane")
                if not isinstance(error, UnavailableError):
                    raise error from raw
                _log.warning("control plane is away", problem=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return

    async def _renew(self, held: _Held) -> None:
        """Renew the lease until cancelled, often enough for people to watch."""
        interval = min(held.lease_seconds / 3, 0.5)
        while True:
            await asyncio.sleep(interval)
            request = worker_service_pb2.RenewLeaseRequest(
                unlearning_run=held.message.name,
                attempt=held.message.attempt,
                progress=progress_to_wire(held.progress),
            )
            try:
                answer = await self._stub.RenewLease(request, timeout=10)
            except grpc.aio.AioRpcError as raw:
                error = from_rpc_error(raw, service="control plane")
                if isinstance(error, ConflictError):
                    # Somebody else has it now; whatever comes of this is dropped.
                    held.lost = True
                    held.stop.set()
                    return
                continue  # the next one may get through
            if answer.cancel_requested:
                held.stop.set()
