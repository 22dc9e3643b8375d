"""The reference inference server: draws pictures, each by one generation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio

from myosotis.errors import UnavailableError
from myosotis.serving import wire
from myosotis.serving.generation_queue import GenerationQueue
from myosotis.serving.orders import Event, Order, Picture
from myosotis.serving.pinned_unet import PinnedUnet
from myosotis.serving.prompt_checks import PromptCheck
from myosotis.serving.slot import WeightSlot
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.models import ModelCard, TextToImageModel
from myosotis.v1 import image_generation_service_pb2 as pb
from myosotis.v1 import image_generation_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    import numpy as np
    from diffusers import StableDiffusionPipeline
    from numpy.typing import NDArray


class ImageGenerationServicer(pb_grpc.ImageGenerationServiceServicer):
    """Checks the prompt, queues the order, streams what the drawing thread reports."""

    def __init__(
        self,
        *,
        slot: WeightSlot,
        queue: GenerationQueue,
        card: ModelCard,
        prompt_check: PromptCheck | None,
    ) -> None:
        """Prepare; None for *prompt_check* draws every prompt unchecked."""
        self._slot = slot
        self._queue = queue
        self._card = card
        self._prompt_check = prompt_check

    async def GenerateImage(  # noqa: N802 - the name in the proto
        self,
        request: pb.GenerateImageRequest,
        context: grpc.aio.ServicerContext,  # noqa: ARG002 - the generated form
    ) -> AsyncIterator[pb.GenerateImageResponse]:
        order = wire.order(request, self._card)
        active = self._slot.active
        if active is None:
            raise UnavailableError(self._slot.model, "no generation is active here yet")
        if self._prompt_check is not None:
            await self._prompt_check.check(order.prompt, generation=active.generation)
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        ticket = self._queue.submit(order, report)
        try:
            while True:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                yield wire.response(event)
                if isinstance(event, Picture):
                    return
        finally:
            ticket.cancelled = True


def drawing_queue(
    model: TextToImageModel, slot: WeightSlot, *, max_batch: int, capacity: int
) -> GenerationQueue:
    """A queue that draws with *model*, whose UNet *slot* has taken over.

    From now on the pipeline draws by pinned generations only.
    """
    unet = PinnedUnet(slot)
    model.pipeline.unet = unet
    return GenerationQueue(
        pin=unet.pin,
        draw=partial(_draw, model.pipeline),
        max_batch=max_batch,
        capacity=capacity,
    )


def _draw(
    pipeline: "StableDiffusionPipeline",
    orders: Sequence[Order],
    on_step: Callable[[int], None],
) -> "NDArray[np.uint8]":
    return draw_batch(
        pipeline,
        [Drawing(order.prompt, order.seed) for order in orders],
        step_count=orders[0].step_count,
        guidance_scale=orders[0].guidance_scale,
        on_step=on_step,
    )
