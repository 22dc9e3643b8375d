import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from myosotis.serving.slot import WeightSlot
from myosotis.serving.subscriber import Pace, Subscriber
from myosotis.v1 import weight_delivery_service_pb2 as pb

from tests.serving.control_plane import FakeControlPlane
from tests.serving.generations import Forge, Generation

PACE = Pace(heartbeat_seconds=0.05, first_retry_seconds=0.05, last_retry_seconds=0.2)
NAME = "inferenceServers/tester"

Plane: TypeAlias = FakeControlPlane


@asynccontextmanager
async def subscribed(slot: WeightSlot, address: str) -> AsyncIterator[Subscriber]:
    agent = Subscriber(
        slot, name=NAME, control_plane=address, address="here:1", pace=PACE
    )
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def plane(slot: WeightSlot) -> AsyncIterator[Plane]:
    """A control plane to which a server has just said Hello."""
    async with FakeControlPlane.listening() as (plane, address):
        async with subscribed(slot, address):
            hello = await plane.hello()
            assert hello.active_generation == 0
            yield plane
        async with asyncio.timeout(5):
            await plane.left.wait()


async def test_hello_says_who_the_server_is(slot: WeightSlot, forge: Forge) -> None:
    async with (
        FakeControlPlane.listening() as (plane, address),
        subscribed(slot, address),
    ):
        hello = await plane.hello()
    assert hello.inference_server == NAME
    assert hello.model == "models/petal"
    assert hello.base_digest == forge.fingerprints["F32"].root
    assert hello.address == "here:1"
    assert (hello.active_generation, hello.staged_generation) == (0, 0)


async def test_a_generation_is_staged_then_active_then_retired(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    first, second = forge.generation(1, seed=1), forge.generation(2, seed=2)
    await plane.roll_out(first)
    nonce = plane.say_offer(plane.keep(second))
    staged = await plane.acknowledged()
    assert staged.nonce == nonce
    assert staged.phase == pb.Acknowledgement.STAGED
    assert staged.tensor_root == second[0].patch.tensor_roots["F32"]
    assert staged.applied_tensor_count == len(second[0].patch.tensors)
    assert staged.seconds > 0
    assert slot.holding().active_generation == 1
    with slot.pin():
        nonce = plane.say_activate(2)
        active = await plane.acknowledged()
        assert (active.nonce, active.generation) == (nonce, 2)
        assert active.phase == pb.Acknowledgement.ACTIVE
        assert active.tensor_root == staged.tensor_root
        assert await plane.silent()
    retired = await plane.acknowledged()
    assert (retired.nonce, retired.generation) == ("", 1)
    assert retired.phase == pb.Acknowledgement.RETIRED


async def test_without_requests_active_is_said_before_retired(
    plane: Plane, forge: Forge
) -> None:
    await plane.roll_out(forge.generation(1, seed=1))
    await plane.roll_out(forge.generation(2))
    assert (await plane.acknowledged()).phase == pb.Acknowledgement.RETIRED


async def test_the_server_is_heard_while_nothing_happens(plane: Plane) -> None:
    await asyncio.sleep(0.4)
    assert plane.heartbeats >= 3


Wrong: TypeAlias = Callable[[Plane, Forge], str]


def _missing_blob(plane: Plane, forge: Forge) -> str:
    return plane.say_offer(forge.generation(6, seed=3)[0])


def _corrupt_blob(plane: Plane, forge: Forge) -> str:
    manifest = plane.keep(forge.generation(6, seed=4))
    assert manifest.patch.tensor_file is not None
    plane.corrupt.add(manifest.patch.tensor_file.sha256)
    return plane.say_offer(manifest)


def _changed(change: Callable[[bytes], bytes]) -> Wrong:
    def say(plane: Plane, forge: Forge) -> str:
        manifest, content = forge.generation(6, seed=2)
        assert manifest.patch.tensor_file is not None
        plane.blobs[manifest.patch.tensor_file.sha256] = change(content)
        return plane.say_offer(manifest)

    return say


def _patch(**changes: Any) -> Wrong:  # noqa: ANN401 - any field of a manifest
    def say(plane: Plane, forge: Forge) -> str:
        manifest, content = forge.generation(6, seed=2)
        patch = replace(manifest.patch, **changes)
        return plane.say_offer(plane.keep((forge.signed(6, patch), content)))

    return say


def _oversized(plane: Plane, forge: Forge) -> str:
    manifest, _ = forge.generation(6, seed=2)
    assert manifest.patch.tensor_file is not None
    file = replace(manifest.patch.tensor_file, size_bytes=10**9)
    return _patch(tensor_file=file)(plane, forge)


WRONG: dict[str, tuple[str, Wrong]] = {
    "no JSON": ("MALFORMED_MANIFEST", lambda p, _f: p.say_payload(b"{", 6)),
    "unknown field": (
        "MALFORMED_MANIFEST",
        lambda p, f: p.say_payload(
            f.generation(6)[0].to_bytes()[:-1] + b',"extra":1}', 6
        ),
    ),
    "media type": (
        "MALFORMED_MANIFEST",
        lambda p, f: p.say_payload(f.generation(6)[0].to_bytes(), 6, "text/plain"),
    ),
    "another number": (
        "MALFORMED_MANIFEST",
        lambda p, f: p.say_offer(f.generation(6)[0], number=7),
    ),
    "stale": ("STALE_GENERATION", lambda p, f: p.say_offer(f.generation(5)[0])),
    "older": ("STALE_GENERATION", lambda p, f: p.say_offer(f.generation(4)[0])),
    "wrong base": ("WRONG_BASE", _patch(base_digest="0" * 64)),
    "missing blob": ("BAD_BLOB", _missing_blob),
    "corrupt blob": ("BAD_BLOB", _corrupt_blob),
    "short blob": ("BAD_BLOB", _changed(lambda content: content[:-4])),
    "long blob": ("BAD_BLOB", _changed(lambda content: content + b"0000")),
    "flipped bit": (
        "BAD_BLOB",
        _changed(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    ),
    "oversized": ("BAD_BLOB", _oversized),
    "NaN": ("NOT_FINITE", lambda p, f: p.say_offer(p.keep(f.not_finite(6)))),
    "no tensors": ("TENSOR_MISMATCH", _patch(tensors=())),
    "bad root": (
        "WRONG_TENSOR_ROOT",
        _patch(tensor_roots={"F32": "0" * 64, "F16": "0" * 64, "BF16": "0" * 64}),
    ),
    "not staged": ("NOT_STAGED", lambda p, _f: p.say_activate(6)),
    "older one": ("STALE_GENERATION", lambda p, _f: p.say_activate(4)),
}


async def test_refusals_keep_what_is_served(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    """Each is refused once, with its reason, and nothing that is served changes."""
    await plane.roll_out(forge.generation(5, seed=1))
    served = slot.active
    for name, (reason, say) in WRONG.items():
        nonce = say(plane, forge)
        heard, refusal = await plane.refused()
        assert (name, heard) == (name, reason)
        assert (refusal.nonce, refusal.active_generation) == (nonce, 5)
        assert refusal.detail
        assert "\n" not in refusal.detail
        assert slot.active is served
    assert await plane.silent()
    await plane.roll_out(forge.generation(6, seed=2))


async def test_a_server_without_a_generation_stays_so_after_a_refusal(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    plane.say_offer(plane.keep(forge.not_finite(1)))
    _, refusal = await plane.refused()
    assert refusal.active_generation == 0
    assert slot.active is None


async def test_a_directive_is_answered_once(plane: Plane, forge: Forge) -> None:
    plane.say_offer(plane.keep(forge.generation(1)))
    nonce = (await plane.acknowledged()).nonce
    again = pb.Activate(nonce=nonce, generation=1)
    plane.repeat(pb.SubscribeDirectivesResponse(activate=again))
    assert await plane.silent()


async def test_a_directive_that_was_carried_out_is_acknowledged_again(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    """A control plane that lost the answer may ask again, with a new nonce."""
    generation = forge.generation(1, seed=1)
    for _ in range(2):
        plane.say_offer(plane.keep(generation))
        assert (await plane.acknowledged()).phase == pb.Acknowledgement.STAGED
    assert len(plane.offsets) == 1
    served = None
    for _ in range(2):
        plane.say_activate(1)
        assert (await plane.acknowledged()).phase == pb.Acknowledgement.ACTIVE
        assert slot.active is (served or slot.active)
        served = slot.active


async def test_a_broken_stream_is_opened_again_and_says_what_is_held(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    await plane.roll_out(forge.generation(1, seed=1))
    plane.say_offer(plane.keep(forge.generation(2)))
    await plane.acknowledged()
    plane.hang_up()
    hello = await plane.hello()
    assert (hello.active_generation, hello.staged_generation) == (1, 2)
    active = slot.active
    assert active is not None
    assert hello.tensor_root == active.tensor_root
    plane.say_activate(2)
    assert (await plane.acknowledged()).phase == pb.Acknowledgement.ACTIVE


async def test_a_request_that_outlives_the_stream_is_reported_on_the_next(
    plane: Plane, slot: WeightSlot, forge: Forge
) -> None:
    await plane.roll_out(forge.generation(1, seed=1))
    with slot.pin():
        await plane.roll_out(forge.generation(2))
        plane.hang_up()
        await asyncio.sleep(0.02)
    # Heard on either stream, once: before the Hello of the next or after it.
    heard = [(await plane.hears()).WhichOneof("event") for _ in range(2)]
    assert sorted(filter(None, heard)) == ["acknowledgement", "hello"]
    assert await plane.silent()


async def test_a_blob_goes_on_where_its_stream_broke(
    plane: Plane, forge: Forge
) -> None:
    plane.break_after = 4 * 4096
    manifest = plane.keep(forge.generation(1, seed=1))
    plane.say_offer(manifest)
    await plane.hello()
    plane.say_offer(manifest)
    assert (await plane.acknowledged()).phase == pb.Acknowledgement.STAGED
    assert plane.offsets == [0, 4 * 4096]


async def test_the_control_plane_may_go_and_come_back(
    slot: WeightSlot, forge: Forge
) -> None:
    plane = FakeControlPlane()
    generation: Generation = forge.generation(1, seed=1)
    async with FakeControlPlane.listening(plane=plane) as (_, address):
        agent: AbstractAsyncContextManager[Subscriber] = subscribed(slot, address)
        await agent.__aenter__()
        await plane.hello()
        await plane.roll_out(generation)
    try:
        await asyncio.sleep(0.5)
        assert slot.holding().active_generation == 1
        async with FakeControlPlane.listening(address, plane):
            assert (await plane.hello()).active_generation == 1
            await plane.roll_out(forge.generation(2))
    finally:
        await agent.__aexit__(None, None, None)
