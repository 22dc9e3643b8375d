import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from myosotis.cli.infer import InferenceSettings, run_inference_server
from myosotis.errors import InvalidArgumentError, UnavailableError
from myosotis.execution.models import ModelSource
from myosotis.serving.prompt_checks import PromptCheck
from myosotis.serving.reference_server import ImageGenerationServicer, drawing_queue
from myosotis.serving.slot import WeightSlot
from myosotis.serving.subscriber import Pace, Subscriber
from myosotis.transport.channels import open_channel
from myosotis.transport.servers import GrpcServer
from myosotis.unlearning.drawing import Drawing
from myosotis.unlearning.models import TextToImageModel
from myosotis.v1 import image_generation_service_pb2 as pb
from myosotis.v1 import image_generation_service_pb2_grpc as pb_grpc
from PIL import Image

from tests.serving.control_plane import BANNED, FakeControlPlane
from tests.serving.generations import Forge
from tests.serving.golden import GUIDANCE, STEPS, Golden, apart, pixels

DOG = Drawing("a dog", 3)
SEEDS = {1: 1, 2: None, 3: 2, 4: 1, 5: None, 6: 2}


@dataclass
class Running:
    """A reference server in this process, and the control plane that it follows."""

    plane: FakeControlPlane
    slot: WeightSlot
    stub: pb_grpc.ImageGenerationServiceStub

    async def events(
        self, drawing: Drawing = DOG, **fields: float
    ) -> list[pb.GenerateImageResponse]:
        request = pb.GenerateImageRequest(
            prompt=drawing.prompt,
            **{
                "seed": drawing.seed,
                "step_count": STEPS,
                "guidance_scale": GUIDANCE,
                **fields,
            },
        )
        return [event async for event in self.stub.GenerateImage(request)]

    async def image(self, drawing: Drawing = DOG, **fields: float) -> pb.GeneratedImage:
        return (await self.events(drawing, **fields))[-1].image

    async def refusal(
        self, drawing: Drawing = DOG, **fields: float
    ) -> tuple[str, error_details_pb2.ErrorInfo]:
        """The status code of a failed call, and its ErrorInfo."""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.events(drawing, **fields)
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(failed.value)
        assert status is not None
        assert status.details[0].Unpack(info)
        return failed.value.code().name, info


Start: TypeAlias = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(model: TextToImageModel, slot: WeightSlot) -> Start:
    @asynccontextmanager
    async def running(
        *, moderation: bool = True, capacity: int = 64
    ) -> AsyncIterator[Running]:
        queue = drawing_queue(model, slot, max_batch=2, capacity=capacity)
        async with AsyncExitStack() as stack:
            plane, address = await stack.enter_async_context(
                FakeControlPlane.listening()
            )
            channel = await stack.enter_async_context(open_channel(address))
            check = PromptCheck(channel, model=model.name) if moderation else None
            server = GrpcServer("127.0.0.1:0")
            server.add(
                pb_grpc.add_ImageGenerationServiceServicer_to_server,
                ImageGenerationServicer(
                    slot=slot, queue=queue, card=model.card, prompt_check=check
                ),
            )
            await server.start()
            pace = Pace(0.1, 0.05, 0.2)
            agent = Subscriber(
                slot, name="inferenceServers/a", control_plane=address, pace=pace
            )
            following = asyncio.create_task(agent.run())
            drawing = asyncio.create_task(asyncio.to_thread(queue.run))
            mine = await stack.enter_async_context(open_channel(server.address))
            try:
                await plane.hello()
                yield Running(plane, slot, pb_grpc.ImageGenerationServiceStub(mine))
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await server.stop(5)
                queue.close()
                await drawing

    return running


async def test_a_picture_says_where_it_comes_from(start: Start, forge: Forge) -> None:
    generation = forge.generation(1, seed=1)
    async with start() as running:
        await running.plane.roll_out(generation)
        *steps, last = await running.events()
    assert [(e.progress.done_steps, e.progress.total_steps) for e in steps] == [
        (step + 1, STEPS) for step in range(STEPS)
    ]
    image = last.image
    assert (image.generation, image.policy_revision) == (1, 10)
    assert image.patch_digest == generation[0].patch_digest
    assert (image.batch_size, image.batch_index) == (1, 0)
    assert (image.seed, image.step_count) == (DOG.seed, STEPS)
    assert image.guidance_scale == GUIDANCE
    assert image.seconds > 0
    assert Image.open(io.BytesIO(image.png)).info == {
        "Software": "Myosotis",
        "Myosotis-Generation": "1",
        "Myosotis-Patch-Digest": generation[0].patch_digest,
        "Myosotis-Policy-Revision": "10",
        "Myosotis-Batch-Size": "1",
        "Myosotis-Batch-Index": "0",
    }


async def test_steps_and_guidance_default_to_the_models(
    start: Start, forge: Forge, model: TextToImageModel
) -> None:
    async with start() as running:
        await running.plane.roll_out(forge.generation(1))
        image = await running.image(step_count=0, guidance_scale=0)
    assert image.step_count == model.card.step_count
    assert image.guidance_scale == model.card.guidance_scale


@pytest.mark.slow
async def test_swaps_under_load_tear_no_request(
    start: Start, forge: Forge, golden: Golden
) -> None:
    """Each picture is that of the generation it names, and of no other."""
    drawings = [Drawing("a dog", 3), Drawing("a red apple", 4)]
    images: list[tuple[Drawing, pb.GeneratedImage]] = []
    done = asyncio.Event()

    async def keep_asking(running: Running, drawing: Drawing) -> None:
        while not done.is_set():
            images.append((drawing, await running.image(drawing)))

    async with start() as running:
        await running.plane.roll_out(forge.generation(1, SEEDS[1]))
        asking = [
            asyncio.create_task(keep_asking(running, drawing))
            for drawing in drawings * 3
        ]
        for number in list(SEEDS)[1:]:
            # Long enough for a batch, so that swaps fall into the middle of one.
            await asyncio.sleep(0.5)
            await running.plane.roll_out(forge.generation(number, SEEDS[number]))
        await asyncio.sleep(0.5)
        done.set()
        await asyncio.gather(*asking)

    assert {image.generation for _, image in images} == set(SEEDS)
    assert max(image.batch_size for _, image in images) > 1
    for drawing, image in images:
        drawn, place = pixels(image.png), (image.batch_size, image.batch_index)
        seed = SEEDS[image.generation]
        assert apart(drawn, golden.picture(drawing, seed, *place)) <= 1
        for other in set(SEEDS.values()) - {seed}:
            assert apart(drawn, golden.picture(drawing, other, *place)) > 8


async def test_a_banned_prompt_is_not_drawn(start: Start, forge: Forge) -> None:
    async with start() as running:
        await running.plane.roll_out(forge.generation(3))
        code, info = await running.refusal(Drawing(f"a {BANNED}", 1))
        assert (code, info.reason) == ("FAILED_PRECONDITION", "PROMPT_BLOCKED")
        assert dict(info.metadata) == {
            "concept": "policies/p/concepts/thing",
            "revision": "7",
        }
        assert running.plane.checked == [3]


async def test_a_prompt_that_cannot_be_checked_is_not_drawn(
    start: Start, forge: Forge
) -> None:
    async with start() as running:
        await running.plane.roll_out(forge.generation(1))
        running.plane.undecided = True
        code, info = await running.refusal()
        assert (code, info.reason) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")


async def test_a_control_plane_that_is_gone_is_no_permission(model: object) -> None:
    assert model
    async with open_channel("127.0.0.1:1") as channel:
        check = PromptCheck(channel, model="models/petal")
        with pytest.raises(UnavailableError):
            await check.check("a dog", generation=1)


async def test_without_moderation_no_prompt_is_checked(
    start: Start, forge: Forge
) -> None:
    async with start(moderation=False) as running:
        await running.plane.roll_out(forge.generation(1))
        assert (await running.image(Drawing(f"a {BANNED}", 1))).generation == 1
        assert running.plane.checked == []


async def test_without_a_generation_nothing_is_drawn(start: Start) -> None:
    async with start() as running:
        code, info = await running.refusal()
        assert (code, info.reason) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")


async def test_a_request_for_a_newer_generation_is_refused(
    start: Start, forge: Forge
) -> None:
    async with start() as running:
        await running.plane.roll_out(forge.generation(2))
        code, info = await running.refusal(min_generation=3)
        assert (code, info.reason) == ("FAILED_PRECONDITION", "PRECONDITION")
        assert (await running.image(min_generation=2)).generation == 2


WRONG_FIELDS: list[tuple[str, float]] = [
    ("seed", -1),
    ("step_count", -1),
    ("step_count", 101),
    ("guidance_scale", 0.5),
    ("guidance_scale", 30.5),
    ("guidance_scale", float("nan")),
    ("min_generation", -1),
]


async def test_a_wrong_field_is_named(start: Start) -> None:
    async with start() as running:
        for field, value in WRONG_FIELDS:
            code, info = await running.refusal(**{field: value})
            assert (code, info.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
            assert info.metadata["field"] == field
        for prompt in ("", "  ", "x" * 4001):
            code, info = await running.refusal(Drawing(prompt, 1))
            assert (code, info.metadata["field"]) == ("INVALID_ARGUMENT", "prompt")


async def test_a_full_queue_is_said_so(start: Start, forge: Forge) -> None:
    async with start(capacity=1) as running:
        await running.plane.roll_out(forge.generation(1))
        asked = await asyncio.gather(
            *(running.image(Drawing("a dog", n)) for n in range(6)),
            return_exceptions=True,
        )
        codes = {a.code().name for a in asked if isinstance(a, grpc.aio.AioRpcError)}
        assert codes == {"RESOURCE_EXHAUSTED"}
        assert any(isinstance(answer, pb.GeneratedImage) for answer in asked)


async def test_a_caller_who_leaves_ends_the_drawing(start: Start, forge: Forge) -> None:
    async with start() as running:
        await running.plane.roll_out(forge.generation(1))
        request = pb.GenerateImageRequest(prompt="a dog", step_count=100)
        call = running.stub.GenerateImage(request)
        assert (await call.read()).progress.done_steps == 1
        call.cancel()
        image = await running.image()
        assert image.batch_size == 1
        # The pin is gone, so an old generation retires at once.
        await running.plane.roll_out(forge.generation(2))
        assert (await running.plane.acknowledged()).generation == 1


async def health_of(address: str) -> str:
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def settings(control_plane: str, listen: str = "127.0.0.1:0") -> InferenceSettings:
    source = ModelSource.parse("models/petal")
    return InferenceSettings(source, control_plane, listen, name="tester")


async def announced(capsys: pytest.CaptureFixture[str]) -> str:
    """The address that a server prints once it listens."""
    async with asyncio.timeout(60):
        while True:
            for line in capsys.readouterr().out.splitlines():
                if line.startswith("listening on "):
                    return line.removeprefix("listening on ")
            await asyncio.sleep(0.05)


async def test_the_whole_server_is_ready_with_its_first_generation_and_drains(
    forge: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM lets a picture that is being drawn end."""
    async with FakeControlPlane.listening() as (plane, control_plane):
        serving = asyncio.create_task(run_inference_server(settings(control_plane)))
        address = await announced(capsys)
        assert await health_of(address) == "NOT_SERVING"
        hello = await plane.hello()
        assert (hello.inference_server, hello.address) == (
            "inferenceServers/tester",
            address,
        )
        await plane.roll_out(forge.generation(1, seed=1))
        assert await health_of(address) == "SERVING"
        async with open_channel(address) as channel:
            stub = pb_grpc.ImageGenerationServiceStub(channel)
            call = stub.GenerateImage(
                pb.GenerateImageRequest(prompt="a dog", step_count=20)
            )
            events = aiter(call)
            assert (await anext(events)).progress.done_steps == 1
            os.kill(os.getpid(), signal.SIGTERM)
            *_, last = [event async for event in events]
            assert last.image.generation == 1
        await asyncio.wait_for(serving, 10)


async def test_a_port_in_use_is_said_at_once() -> None:
    async with FakeControlPlane.listening() as (_, taken):
        with pytest.raises(UnavailableError, match=taken):
            await run_inference_server(settings(taken, listen=taken))


@pytest.mark.parametrize("field", ["max_batch", "capacity", "threads"])
def test_settings_are_checked(field: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        InferenceSettings(
            ModelSource("models/petal"), "a:1", "b:1", name="x", **{field: 0}
        )
    assert refused.value.field == field
