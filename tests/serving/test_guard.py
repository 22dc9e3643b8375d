import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from myosotis.errors import InvalidArgumentError, UnavailableError
from myosotis.serving.guard import Guard, protect
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.models import TextToImageModel

from tests.serving.control_plane import FakeControlPlane
from tests.serving.generations import Forge
from tests.serving.golden import GUIDANCE, STEPS, Golden, apart

DOG = Drawing("a dog", 3)


class Remote:
    """A fake control plane in a thread of its own, for code without an event loop."""

    def __init__(self, plane: FakeControlPlane, address: str) -> None:
        self.plane = plane
        self.address = address
        self.loop = asyncio.get_running_loop()

    def roll_out(self, forge: Forge, number: int, seed: int | None) -> None:
        rolling = self.plane.roll_out(forge.generation(number, seed))
        asyncio.run_coroutine_threadsafe(rolling, self.loop).result(30)


@contextmanager
def remote_control_plane() -> Iterator[Remote]:
    ready = threading.Event()
    found: list[tuple[Remote, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with FakeControlPlane.listening() as (plane, address):
            found.append((Remote(plane, address), stop))
            ready.set()
            await stop.wait()
        # The last events of gRPC are for this loop.
        await asyncio.sleep(0.1)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    remote, stop = found[0]
    try:
        yield remote
    finally:
        remote.loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def remote() -> Iterator[Remote]:
    with remote_control_plane() as remote:
        yield remote


@pytest.fixture
def guard(model: TextToImageModel, remote: Remote) -> Iterator[Guard]:
    with protect(
        model.pipeline,
        model=model.name,
        control_plane=remote.address,
        name="my-server",
    ) as guard:
        hello = asyncio.run_coroutine_threadsafe(remote.plane.hello(), remote.loop)
        assert hello.result(30).inference_server == "inferenceServers/my-server"
        yield guard


def test_a_pipeline_draws_by_the_generation_that_is_active(
    guard: Guard, model: TextToImageModel, remote: Remote, forge: Forge, golden: Golden
) -> None:
    """The user's own call of the plain pipeline, in a synchronous program."""
    for number, seed in ((1, 1), (2, None), (3, 2)):
        remote.roll_out(forge, number, seed)
        guard.wait_until_ready(10)
        with guard.request() as served:
            pictures = model.pipeline(
                DOG.prompt,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=torch.Generator().manual_seed(DOG.seed),
                output_type="np",
            ).images
        assert served.generation == number
        assert len(served.patch_digest) == 64
        drawn = (pictures[0] * 255).round().astype("uint8")
        assert apart(drawn, golden.picture(DOG, seed, 1, 0)) <= 1


def test_without_a_generation_nothing_is_drawn(
    guard: Guard, model: TextToImageModel
) -> None:
    with pytest.raises(UnavailableError), guard.request():
        pytest.fail("served without a generation")
    with pytest.raises(UnavailableError):
        guard.wait_until_ready(0.01)
    with pytest.raises(UnavailableError):
        model.pipeline("a dog", num_inference_steps=1)


def test_outside_of_a_request_the_pipeline_raises_instead_of_using_the_base(
    guard: Guard, model: TextToImageModel, remote: Remote, forge: Forge
) -> None:
    remote.roll_out(forge, 1, 1)
    unet = model.pipeline.unet
    with pytest.raises(UnavailableError):
        model.pipeline("a dog", num_inference_steps=1)
    with pytest.raises(AttributeError):
        _ = unet.conv_in
    assert not hasattr(unet, "down_blocks")
    assert list(unet.parameters()) == []
    with guard.request() as served:
        assert unet.conv_in is served.unet.conv_in


def test_the_pin_follows_the_context_and_no_further(
    guard: Guard, model: TextToImageModel, remote: Remote, forge: Forge
) -> None:
    """Another thread has no pin, unless the context is carried there."""
    remote.roll_out(forge, 1, 1)

    def draw() -> None:
        draw_batch(model.pipeline, [DOG], step_count=1, guidance_scale=1)

    with guard.request(), ThreadPoolExecutor(1) as other:
        other.submit(contextvars.copy_context().run, draw).result()
        with pytest.raises(UnavailableError):
            other.submit(draw).result()


@pytest.mark.usefixtures("guard")
def test_what_pipelines_ask_of_a_unet_is_answered_without_a_pin(
    model: TextToImageModel, loaded: TextToImageModel
) -> None:
    pipeline, before = model.pipeline, loaded.pipeline
    assert pipeline.unet.config.sample_size == before.unet.config.sample_size
    assert (pipeline.unet.dtype, pipeline.dtype) == (torch.float32, before.dtype)
    assert (pipeline.unet.device, pipeline.device) == (before.device, before.device)
    assert set(pipeline.components) == set(before.components)


@pytest.mark.usefixtures("guard")
def test_protected_weights_stay_where_they_are(model: TextToImageModel) -> None:
    model.pipeline.to("cpu")
    model.pipeline.to(torch.float32)
    for move in (
        lambda: model.pipeline.unet.to(torch.float16),
        lambda: model.pipeline.unet.to("meta"),
        model.pipeline.unet.half,
    ):
        with pytest.raises(UnavailableError):
            move()


def test_requests_go_on_after_the_guard_is_closed(
    guard: Guard, remote: Remote, forge: Forge
) -> None:
    remote.roll_out(forge, 1, 1)
    guard.close()
    guard.close()
    with guard.request() as served:
        assert served.generation == 1


def test_names_are_checked_before_anything_happens(model: TextToImageModel) -> None:
    unet = model.pipeline.unet
    for wrong in ({"model": "petal"}, {"name": "My Server"}):
        given = {"model": model.name, "name": "mine", **wrong}
        with pytest.raises(InvalidArgumentError) as refused:
            protect(model.pipeline, control_plane="127.0.0.1:1", **given)
        assert refused.value.field == next(iter(wrong))
    assert model.pipeline.unet is unet
