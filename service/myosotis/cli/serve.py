"""`myosotis serve`: the composition root of the control plane. Never imports torch."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Engine

from myosotis import names
from myosotis.errors import MyosotisError, UnavailableError
from myosotis.policy.registry import PolicyRegistry
from myosotis.policy.watcher import watch_policy_folder
from myosotis.rollout.reconciler import Reconciler
from myosotis.rpc.changes import Changes, settled
from myosotis.rpc.delivery import WeightDeliveryServicer
from myosotis.rpc.fleet import FleetServicer
from myosotis.rpc.patches import PatchServicer
from myosotis.rpc.policies import PolicyServicer
from myosotis.rpc.prompts import ModerationServicer
from myosotis.rpc.runs import UnlearningServicer
from myosotis.rpc.workers import WorkerServicer
from myosotis.store.blobs import BlobDirectory
from myosotis.store.database import connect
from myosotis.store.patches import SqlPatchStore
from myosotis.store.policies import SqlPolicyStore
from myosotis.store.runs import SqlRunStore
from myosotis.store.schema import upgrade
from myosotis.store.servers import SqlServerStore
from myosotis.transport.servers import GrpcServer
from myosotis.transport.stopping import asked_to_stop
from myosotis.v1 import (
    fleet_service_pb2_grpc,
    moderation_service_pb2_grpc,
    patch_service_pb2_grpc,
    policy_service_pb2_grpc,
    unlearning_service_pb2_grpc,
    weight_delivery_service_pb2_grpc,
    worker_service_pb2_grpc,
)

_log = structlog.get_logger(__name__)

# The reconciler looks by itself after so long: leases run out without a sound.
_LOOK_AGAIN_SECONDS = 1.0
_DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    """What an operator decides.

    Attributes:
        listen: ``host:port``; port 0 takes a free one.
        database: SQLAlchemy URL.
        blobs: folder of blobs.
        policies: watched folder of policy files; None for the API alone.
        models: names of the registered models.
        lease: how long a silent worker keeps its run.
        settle: how long a new run waits for more policies.
        stale: after how long a silent server counts as STALE.
    """

    listen: str
    database: str
    blobs: Path
    policies: Path | None
    models: tuple[str, ...]
    lease: timedelta = timedelta(seconds=30)
    settle: timedelta = timedelta(seconds=0.5)
    stale: timedelta = timedelta(seconds=15)


async def run_control_plane(settings: ControlPlaneSettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        MyosotisError: what keeps it from starting, in one line.
    """
    async with control_plane(settings) as (address, loops):
        print(f"listening on {address}", flush=True)  # noqa: T201 - for scripts
        stopping = asyncio.create_task(asked_to_stop())
        ended, _ = await asyncio.wait(
            [stopping, *loops], return_when=asyncio.FIRST_COMPLETED
        )
        # A loop ends only by a defect; serving on without it would be a lie.
        for task in ended:
            task.result()


@asynccontextmanager
async def control_plane(
    settings: ControlPlaneSettings,
) -> AsyncIterator[tuple[str, list[asyncio.Task[None]]]]:
    """A control plane that runs while inside; gives its address and its loops.

    Raises:
        MyosotisError: what keeps it from starting, in one line.
    """
    for model in settings.models:
        names.parse("model", model, field="model")
    engine = connect(settings.database)
    try:
        await asyncio.to_thread(upgrade, engine)
        stores = _Stores.of(engine, settings.blobs)
        async with _ControlPlane(settings, stores).running() as running:
            yield running
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class _Stores:
    policies: SqlPolicyStore
    runs: SqlRunStore
    patches: SqlPatchStore
    servers: SqlServerStore
    blobs: BlobDirectory

    @classmethod
    def of(cls, engine: Engine, blobs: Path) -> "_Stores":
        return cls(
            SqlPolicyStore(engine),
            SqlRunStore(engine),
            SqlPatchStore(engine),
            SqlServerStore(engine),
            BlobDirectory(blobs),
        )


class _ControlPlane:
    """The servicers and the two loops of one process."""

    def __init__(self, settings: ControlPlaneSettings, stores: _Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._changes = Changes(asyncio.get_running_loop())
        self._registry = PolicyRegistry(
            stores.policies,
            models=settings.models,
            now=_utc_now,
            on_change=self._changes.announce,
        )
        self._reconciler = Reconciler(
            policies=stores.policies,
            runs=stores.runs,
            patches=stores.patches,
            blobs=stores.blobs,
            now=_utc_now,
            new_id=lambda: uuid.uuid4().hex,
            settle=settings.settle,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[str, list[asyncio.Task[None]]]]:
        """Serve, watch and reconcile; gives the address and the loops."""
        server = GrpcServer(self._settings.listen)
        self._offer(server)
        await server.start()
        loops = [asyncio.create_task(self._reconcile())]
        if self._settings.policies is not None:
            loops.append(asyncio.create_task(self._watch(self._settings.policies)))
        await server.set_serving(serving=True)
        _log.info("control plane started", address=server.address)
        try:
            yield server.address, loops
        finally:
            for loop in loops:
                loop.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await loop
            await server.stop(_DRAIN_SECONDS)
            _log.info("control plane stopped")

    def _offer(self, server: GrpcServer) -> None:
        stores, changes = self._stores, self._changes
        models = frozenset(self._settings.models)
        server.add(
            policy_service_pb2_grpc.add_PolicyServiceServicer_to_server,
            PolicyServicer(self._registry, stores.policies),
        )
        server.add(
            unlearning_service_pb2_grpc.add_UnlearningServiceServicer_to_server,
            UnlearningServicer(
                runs=stores.runs,
                reconciler=self._reconciler,
                changes=changes,
                now=_utc_now,
            ),
        )
        server.add(
            worker_service_pb2_grpc.add_WorkerServiceServicer_to_server,
            WorkerServicer(
                runs=stores.runs,
                patches=stores.patches,
                blobs=stores.blobs,
                changes=changes,
                now=_utc_now,
                lease=self._settings.lease,
            ),
        )
        server.add(
            patch_service_pb2_grpc.add_PatchServiceServicer_to_server,
            PatchServicer(stores.patches),
        )
        server.add(
            weight_delivery_service_pb2_grpc.add_WeightDeliveryServiceServicer_to_server,
            WeightDeliveryServicer(
                models=models,
                patches=stores.patches,
                servers=stores.servers,
                blobs=stores.blobs,
                changes=changes,
                now=_utc_now,
            ),
        )
        server.add(
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server,
            FleetServicer(
                servers=stores.servers,
                patches=stores.patches,
                now=_utc_now,
                stale=self._settings.stale,
            ),
        )
        server.add(
            moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server,
            ModerationServicer(
                models=models,
                policies=stores.policies,
                patches=stores.patches,
                runs=stores.runs,
            ),
        )

    async def _reconcile(self) -> None:
        while True:
            upcoming = self._changes.upcoming()
            for model in self._settings.models:
                try:
                    while await asyncio.to_thread(self._reconciler.reconcile, model):
                        self._changes.announce()
                except MyosotisError as error:
                    # A full disk, say: what is served stays as it is.
                    _log.error("cannot reconcile", model=model, problem=str(error))
            await settled(upcoming, seconds=_LOOK_AGAIN_SECONDS)

    async def _watch(self, folder: Path) -> None:
        async for says in watch_policy_folder(folder):
            if isinstance(says, UnavailableError):
                _log.error("policy folder", problem=str(says))
                continue
            try:
                errors = await asyncio.to_thread(self._registry.sync, says)
            except MyosotisError as error:
                _log.error("policies not stored", problem=str(error))
                continue
            for problem in errors:
                _log.error("policy file", problem=str(problem))


def _utc_now() -> datetime:
    return datetime.now(UTC)
