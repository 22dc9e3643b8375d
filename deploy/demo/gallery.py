"""Pictures from the live inference server, each with what it takes to draw it again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from myosotis.errors import MyosotisError
from myosotis.transport.errors import from_rpc_error
from myosotis.v1 import image_generation_service_pb2, image_generation_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture to ask for: *label* is what it should show."""

    label: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Served:
    """A picture that came."""

    wish: Wish
    image: image_generation_service_pb2.GeneratedImage


class Gallery:
    """Asks the server, and keeps everything that it answered."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = image_generation_service_pb2_grpc.ImageGenerationServiceStub(
            channel
        )
        self.served: list[Served] = []
        self.failures: list[str] = []

    async def ask(self, wish: Wish) -> Served:
        """One picture.

        Raises:
            MyosotisError: the server refused, or failed.
        """
        request = image_generation_service_pb2.GenerateImageRequest(
            prompt=wish.prompt, seed=wish.seed
        )
        image = None
        try:
            async for answer in self._stub.GenerateImage(request, timeout=120):
                if answer.WhichOneof("event") == "image":
                    image = answer.image
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="inference server") from error
        if image is None:
            raise ValueError("the stream ended without a picture")
        served = Served(wish, image)
        self.served.append(served)
        return served

    async def ask_all(
        self, wishes: Sequence[Wish], *, at_once: int, done: Callable[[], None]
    ) -> list[Served]:
        """All of *wishes*, in order, *at_once* at a time."""
        gate = asyncio.Semaphore(at_once)

        async def one(wish: Wish) -> Served:
            async with gate:
                served = await self.ask(wish)
                done()
                return served

        return list(await asyncio.gather(*(one(wish) for wish in wishes)))

    async def keep_asking(self, wishes: Sequence[Wish], stop: asyncio.Event) -> None:
        """One picture after the other until *stop*; failures are kept, not raised."""
        index = 0
        while not stop.is_set():
            wish = wishes[index % len(wishes)]
            again = Wish(wish.label, wish.prompt, wish.seed + index)
            try:
                await self.ask(again)
            except (MyosotisError, ValueError) as error:
                self.failures.append(str(error))
            index += 1
            # Enough to be a load, and little enough to leave a core to the worker.
            await asyncio.sleep(0.5)
