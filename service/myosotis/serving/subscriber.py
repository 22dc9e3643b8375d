"""The agent inside an inference server: does what the control plane directs."""

import asyncio
import random
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog

from myosotis import names
from myosotis.errors import MyosotisError, PatchRefusedError, UnavailableError
from myosotis.serving import wire
from myosotis.serving.admission import check_activation, check_offer
from myosotis.serving.downloads import Downloads
from myosotis.serving.slot import Snapshot, WeightSlot
from myosotis.transport.channels import open_channel
from myosotis.transport.errors import from_rpc_error
from myosotis.v1 import weight_delivery_service_pb2 as pb
from myosotis.v1 import weight_delivery_service_pb2_grpc as pb_grpc

_log = structlog.get_logger(__name__)

Outbox = asyncio.Queue[pb.SubscribeDirectivesRequest]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the agent speaks.

    Attributes:
        heartbeat_seconds: longest silence on a stream.
        first_retry_seconds: wait after the first broken stream; it doubles each time.
        last_retry_seconds: longest wait; the actual one is half to all of it.
    """

    heartbeat_seconds: float = 2.0
    first_retry_seconds: float = 0.1
    last_retry_seconds: float = 5.0


def _nothing(_snapshot: Snapshot) -> None:
    pass


class Subscriber:
    """Keeps one stream open, and the slot at what it directs.

    Directives are carried out one after the other. A refusal, a broken stream or a
    control plane that is gone leave what is served as it is.
    """

    def __init__(  # noqa: PLR0913 - the composition of an agent
        self,
        slot: WeightSlot,
        *,
        name: str,
        control_plane: str,
        address: str = "",
        on_active: Callable[[Snapshot], None] = _nothing,
        pace: Pace = Pace(),
    ) -> None:
        """Prepare; :meth:`run` connects.

        Args:
            slot: what to keep up to date.
            name: ``inferenceServers/{server}``, the same after a restart.
            control_plane: ``host:port``.
            address: where this server draws pictures, ``host:port``; for people.
            on_active: called in the agent's loop after each change of what is served;
                must not raise.
            pace: how often to speak.

        Raises:
            InvalidArgumentError: *name* has another form.
        """
        names.parse("inference server", name)
        self._slot = slot
        self._name = name
        self._control_plane = control_plane
        self._address = address
        self._on_active = on_active
        self._pace = pace
        self._staged: Snapshot | None = None
        self._downloads = Downloads()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox: Outbox | None = None
        # Generations that ended while no stream was open.
        self._unreported: list[wire.Station] = []

    async def run(self) -> None:
        """Follow the control plane until cancelled; come back when a stream breaks."""
        self._loop = asyncio.get_running_loop()
        async with open_channel(self._control_plane) as channel:
            stub = pb_grpc.WeightDeliveryServiceStub(channel)
            wait = self._pace.first_retry_seconds
            while True:
                start = time.monotonic()
                problem = await self._follow(stub)
                if time.monotonic() - start > self._pace.last_retry_seconds:
                    wait = self._pace.first_retry_seconds
                # Jitter, so that a fleet does not come back in one instant.
                pause = wait * random.uniform(0.5, 1)  # noqa: S311 - no secret
                _log.warning("stream ended", problem=problem, retry_seconds=pause)
                await asyncio.sleep(pause)
                wait = min(2 * wait, self._pace.last_retry_seconds)

    async def _follow(self, stub: pb_grpc.WeightDeliveryServiceStub) -> str:
        """One stream from Hello to its end; why it ended."""
        try:
            await self._converse(stub)
        except grpc.aio.AioRpcError as error:
            return str(from_rpc_error(error, service="control plane"))
        except UnavailableError as error:
            return str(error)
        except asyncio.CancelledError:
            # gRPC says so too where a call broke on this side; the agent itself was
            # not asked to end then.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "the call broke here"
        except Exception as error:  # noqa: BLE001 - a process loop: only the stream ends
            _log.error("defect", traceback=traceback.format_exc())
            return type(error).__name__
        return "closed by the control plane"

    async def _converse(self, stub: pb_grpc.WeightDeliveryServiceStub) -> None:
        outbox: Outbox = asyncio.Queue()
        call = stub.SubscribeDirectives(self._events(outbox))
        answered: set[str] = set()
        self._outbox = outbox
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                directive = _directive(message)
                if directive is None or directive.nonce in answered:
                    continue
                answered.add(directive.nonce)
                outbox.put_nowait(await self._answer(directive, stub))
        finally:
            self._outbox = None
            # An abandoned stream would live until the channel closes.
            call.cancel()

    async def _events(
        self, outbox: Outbox
    ) -> AsyncIterator[pb.SubscribeDirectivesRequest]:
        active = self._slot.active
        yield wire.hello(
            self._name,
            self._address,
            self._slot.holding(self._staged),
            active.tensor_root if active else "",
        )
        while self._unreported:
            yield wire.retired(self._unreported.pop(0))
        while True:
            try:
                async with asyncio.timeout(self._pace.heartbeat_seconds):
                    event = await outbox.get()
            except TimeoutError:
                event = wire.heartbeat()
            yield event

    async def _answer(
        self, directive: pb.Offer | pb.Activate, stub: pb_grpc.WeightDeliveryServiceStub
    ) -> pb.SubscribeDirectivesRequest:
        """Carry *directive* out.

        Raises:
            UnavailableError: the control plane stopped answering meanwhile.
        """
        try:
            if isinstance(directive, pb.Offer):
                return await self._stage(directive, stub)
            return await self._activate(directive)
        except UnavailableError:
            raise
        except PatchRefusedError as error:
            refused = error
        except MyosotisError as error:
            refused = PatchRefusedError("INTERNAL", str(error))
        except Exception as error:  # noqa: BLE001 - the edge of a unit of work
            # What is served stays; the text of the defect stays in the log, as text:
            # a renderer that prints local variables would print tensors.
            _log.error("defect", traceback=traceback.format_exc())
            refused = PatchRefusedError("INTERNAL", type(error).__name__)
        active = self._slot.holding().active_generation
        _log.error(
            "refused",
            generation=directive.generation,
            reason=refused.refusal,
            detail=refused.detail,
            active_generation=active,
        )
        return wire.refusal(directive.nonce, directive.generation, refused, active)

    async def _stage(
        self, offer: pb.Offer, stub: pb_grpc.WeightDeliveryServiceStub
    ) -> pb.SubscribeDirectivesRequest:
        start = time.monotonic()
        manifest = wire.manifest(offer)
        check_offer(offer.generation, manifest, self._slot.holding())
        snapshot = self._staged
        if snapshot is None or snapshot.manifest != manifest:
            file = manifest.patch.tensor_file
            content = await self._downloads.fetch(file, stub) if file else b""
            # Freed first, so that no more than two generations are in memory.
            snapshot = self._staged = None
            snapshot = await asyncio.to_thread(self._slot.stage, manifest, content)
            self._staged = snapshot
        station = _station(snapshot, start)
        _log.info("staged", generation=station.generation, seconds=station.seconds)
        return wire.staged(offer.nonce, station)

    async def _activate(self, activate: pb.Activate) -> pb.SubscribeDirectivesRequest:
        start = time.monotonic()
        check_activation(activate.generation, self._slot.holding(self._staged))
        active, staged = self._slot.active, self._staged
        if staged is not None and staged.generation == activate.generation:
            await asyncio.to_thread(self._slot.check_unchanged, staged)
            self._slot.commit(staged, retired=self._retire)
            active, self._staged = staged, None
            # Without a pause from here to the answer: ACTIVE goes out before RETIRED.
            self._on_active(staged)
        if active is None:
            raise PatchRefusedError("NOT_STAGED", "nothing is staged")
        station = _station(active, start)
        _log.info("active", generation=station.generation, seconds=station.seconds)
        return wire.active(activate.nonce, station)

    def _retire(self, snapshot: Snapshot) -> None:
        """Report the end of *snapshot*; called in any thread."""
        loop = self._loop
        station = wire.Station(snapshot.generation, snapshot.tensor_root)
        if loop is not None:
            # A loop that is closed has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._report_retired, station)

    def _report_retired(self, station: wire.Station) -> None:
        _log.info("retired", generation=station.generation)
        if self._outbox is None:
            self._unreported.append(station)
        else:
            self._outbox.put_nowait(wire.retired(station))


def _station(snapshot: Snapshot, start: float) -> wire.Station:
    return wire.Station(
        snapshot.generation,
        snapshot.tensor_root,
        snapshot.applied_tensor_count,
        time.monotonic() - start,
    )


def _directive(
    message: pb.SubscribeDirectivesResponse,
) -> pb.Offer | pb.Activate | None:
    """The directive in a message; None for a heartbeat, or what is not known here."""
    match message.WhichOneof("directive"):
        case "offer":
            return message.offer
        case "activate":
            return message.activate
    return None
