"""`myosotis infer`: the composition root of the reference inference server."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
import torch

from myosotis import names
from myosotis.errors import InvalidArgumentError
from myosotis.execution.models import ModelSource, load_model
from myosotis.serving.generation_queue import GenerationQueue
from myosotis.serving.prompt_checks import PromptCheck
from myosotis.serving.reference_server import ImageGenerationServicer, drawing_queue
from myosotis.serving.slot import WeightSlot
from myosotis.serving.subscriber import Subscriber
from myosotis.transport.channels import open_channel
from myosotis.transport.servers import GrpcServer
from myosotis.transport.stopping import asked_to_stop
from myosotis.v1 import image_generation_service_pb2_grpc

_log = structlog.get_logger(__name__)

_DRAIN_SECONDS = 30.0
_SERVICE = "myosotis.v1.ImageGenerationService"


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """What an operator decides.

    Attributes:
        source: the model.
        control_plane: ``host:port`` of the control plane.
        listen: ``host:port``; port 0 takes a free one.
        name: of this server, a-z, 0-9 and hyphens, the same after a restart.
        moderation: whether the control plane checks each prompt before it is drawn.
        max_batch: most pictures drawn together.
        capacity: most pictures that wait; more are refused.
        threads: of torch, for one drawing thread.
    """

    source: ModelSource
    control_plane: str
    listen: str
    name: str
    moderation: bool = True
    max_batch: int = 4
    capacity: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        names.parse("inference server", self.server, field="name")
        for field in ("max_batch", "capacity", "threads"):
            if getattr(self, field) < 1:
                raise InvalidArgumentError(field, "less than 1")

    @property
    def server(self) -> str:
        return f"inferenceServers/{self.name}"


async def run_inference_server(settings: InferenceSettings) -> None:
    """Serve until SIGINT or SIGTERM, then let what is being drawn end.

    Raises:
        MyosotisError: what keeps it from starting, in one line.
    """
    # First, because a port in use should cost no loading.
    server = GrpcServer(settings.listen)
    torch.set_num_threads(settings.threads)
    model = await asyncio.to_thread(load_model, settings.source)
    slot = await asyncio.to_thread(WeightSlot, model.name, model.pipeline.unet)
    queue = drawing_queue(
        model, slot, max_batch=settings.max_batch, capacity=settings.capacity
    )
    async with open_channel(settings.control_plane, retry=True) as channel:
        check = PromptCheck(channel, model=model.name) if settings.moderation else None
        if check is None:
            _log.warning("prompts are not checked", model=model.name)
        servicer = ImageGenerationServicer(
            slot=slot, queue=queue, card=model.card, prompt_check=check
        )
        server.add(
            image_generation_service_pb2_grpc.add_ImageGenerationServiceServicer_to_server,
            servicer,
        )
        async with (
            _drawing(queue) as drawing,
            _subscribed(slot, server, settings) as subscription,
        ):
            await _serve(server, drawing, subscription)


async def _serve(server: GrpcServer, *parts: asyncio.Future[None]) -> None:
    """Answer calls until asked to stop, or until one of *parts* ends by a defect."""
    await _set_serving(server, serving=False)
    await server.start()
    print(f"listening on {server.address}", flush=True)  # noqa: T201 - for scripts
    stopping = asyncio.create_task(asked_to_stop())
    try:
        ended, _ = await asyncio.wait(
            [stopping, *parts], return_when=asyncio.FIRST_COMPLETED
        )
        for part in ended:
            part.result()
    finally:
        _log.info("inference server stops", address=server.address)
        await server.stop(_DRAIN_SECONDS)


@asynccontextmanager
async def _drawing(queue: GenerationQueue) -> AsyncIterator[asyncio.Future[None]]:
    """The one thread that draws."""
    with ThreadPoolExecutor(1, thread_name_prefix="drawing") as thread:
        drawing = asyncio.get_running_loop().run_in_executor(thread, queue.run)
        try:
            yield drawing
        finally:
            queue.close()
            await drawing


@asynccontextmanager
async def _subscribed(
    slot: WeightSlot, server: GrpcServer, settings: InferenceSettings
) -> AsyncIterator[asyncio.Future[None]]:
    """The agent; from the first active generation on, the server is ready."""
    ready = asyncio.Event()
    agent = Subscriber(
        slot,
        name=settings.server,
        control_plane=settings.control_plane,
        address=server.address,
        on_active=lambda _snapshot: ready.set(),
    )

    async def announce() -> None:
        await ready.wait()
        await _set_serving(server, serving=True)

    tasks = [asyncio.create_task(agent.run()), asyncio.create_task(announce())]
    try:
        yield tasks[0]
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _set_serving(server: GrpcServer, *, serving: bool) -> None:
    for service in ("", _SERVICE):
        await server.set_serving(serving=serving, service=service)
