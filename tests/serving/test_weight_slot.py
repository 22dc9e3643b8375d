import gc
import threading
import weakref
from dataclasses import replace

import pytest
import torch
from myosotis.errors import (
    InvalidArgumentError,
    PatchRefusedError,
    UnavailableError,
)
from myosotis.patches.fingerprint import Fingerprint, base_digest
from myosotis.serving.slot import Snapshot, WeightSlot
from myosotis.unlearning.models import TextToImageModel
from torch import Tensor, nn

from tests.serving.generations import Forge, Generation


def put(slot: WeightSlot, generation: Generation) -> Snapshot:
    snapshot = slot.stage(*generation)
    slot.commit(snapshot, retired=lambda _: None)
    return snapshot


def pointers(unet: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in unet.state_dict().items()}


def test_a_snapshot_owns_the_patched_tensors_and_shares_all_others(
    slot: WeightSlot, forge: Forge, model: TextToImageModel
) -> None:
    generation = forge.generation(1, seed=1)
    first, second = slot.stage(*generation), slot.stage(*forge.generation(2, seed=2))
    patched = {tensor.name for tensor in generation[0].patch.tensors}
    assert patched
    base = pointers(model.pipeline.unet)
    for name, pointer in pointers(first.unet).items():
        assert (pointer == base[name]) == (name not in patched)
        assert (pointer == pointers(second.unet)[name]) == (name not in patched)


def test_a_snapshot_holds_what_the_patch_makes_of_the_base(
    slot: WeightSlot, forge: Forge
) -> None:
    manifest, content = forge.generation(1, seed=1)
    snapshot = slot.stage(manifest, content)
    root = base_digest(snapshot.unet.state_dict())
    assert root == snapshot.tensor_root == manifest.patch.tensor_roots["F32"]
    assert snapshot.applied_tensor_count == len(forge.changes(1))
    assert (snapshot.generation, snapshot.policy_revision) == (1, 10)


def test_the_empty_plan_is_a_normal_generation_that_shares_everything(
    slot: WeightSlot, forge: Forge, model: TextToImageModel
) -> None:
    snapshot = put(slot, forge.generation(1))
    unet = model.pipeline.unet
    assert snapshot.unet is not unet
    assert pointers(snapshot.unet) == pointers(unet)
    assert snapshot.tensor_root == slot.holding().base_digest


def test_without_a_generation_nothing_is_served(slot: WeightSlot) -> None:
    with pytest.raises(UnavailableError), slot.pin():
        pytest.fail("served without a generation")
    assert not slot.ready.is_set()


def test_a_request_keeps_the_snapshot_of_its_first_step(
    slot: WeightSlot, forge: Forge
) -> None:
    first = put(slot, forge.generation(1, seed=1))
    with slot.pin() as pinned:
        second = put(slot, forge.generation(2, seed=2))
        assert pinned is first
        with slot.pin() as later:
            assert later is second


def test_an_old_snapshot_retires_once_when_its_last_request_ends(
    slot: WeightSlot, forge: Forge
) -> None:
    retired: list[int] = []

    def commit(number: int) -> None:
        snapshot = slot.stage(*forge.generation(number, seed=number))
        slot.commit(snapshot, retired=lambda old: retired.append(old.generation))

    commit(1)
    with slot.pin():
        with slot.pin():
            commit(2)
            assert retired == []
        assert retired == []
    assert retired == [1]
    commit(3)
    assert retired == [1, 2]


def test_a_retired_snapshot_is_freed(slot: WeightSlot, forge: Forge) -> None:
    freed = threading.Event()
    first = put(slot, forge.generation(1, seed=1))
    weakref.finalize(first.unet.get_parameter("conv_in.weight"), freed.set)
    put(slot, forge.generation(2, seed=2))
    del first
    gc.collect()
    assert freed.is_set()


def test_patches_never_add_up_and_the_base_is_never_written(
    slot: WeightSlot, forge: Forge, model: TextToImageModel
) -> None:
    first = put(slot, forge.generation(1, seed=1)).tensor_root
    for number in range(2, 12):
        put(slot, forge.generation(number, seed=None if number % 2 else number))
    assert put(slot, forge.generation(12, seed=1)).tensor_root == first
    assert put(slot, forge.generation(13)).tensor_root == slot.holding().base_digest
    unet = model.pipeline.unet
    assert base_digest(unet.state_dict()) == base_digest(forge.state)


def test_a_staged_snapshot_that_was_written_to_is_noticed(
    slot: WeightSlot, forge: Forge
) -> None:
    snapshot = slot.stage(*forge.generation(1, seed=1))
    slot.check_unchanged(snapshot)
    with torch.no_grad():
        snapshot.unet.state_dict()["conv_in.weight"][0, 0, 0, 0] += 1
    with pytest.raises(PatchRefusedError) as refused:
        slot.check_unchanged(snapshot)
    assert refused.value.refusal == "WRONG_TENSOR_ROOT"


def refusal(slot: WeightSlot, generation: Generation) -> str:
    before = slot.active
    with pytest.raises(PatchRefusedError) as refused:
        slot.stage(*generation)
    assert slot.active is before
    return refused.value.refusal


def test_what_is_wrong_is_refused_and_what_is_served_stays(
    slot: WeightSlot, forge: Forge
) -> None:
    put(slot, forge.generation(5, seed=1))
    manifest, content = forge.generation(6, seed=2)
    patch = manifest.patch
    other_roots = dict.fromkeys(patch.tensor_roots, "0" * 64)
    cases: dict[str, list[Generation]] = {
        "STALE_GENERATION": [forge.generation(5, seed=2), forge.generation(4, seed=2)],
        "WRONG_BASE": [
            (forge.signed(6, replace(patch, base_digest="0" * 64)), content),
            (
                replace(
                    forge.signed(6, replace(patch, model="models/other")),
                    model="models/other",
                ),
                content,
            ),
        ],
        "BAD_BLOB": [
            (manifest, content[:-1]),
            (manifest, content[:-1] + b"\x01"),
            (manifest, b""),
        ],
        "NOT_FINITE": [forge.not_finite(6)],
        "TENSOR_MISMATCH": [
            (forge.signed(6, replace(patch, tensors=patch.tensors[1:])), content)
        ],
        "WRONG_TENSOR_ROOT": [
            (forge.signed(6, replace(patch, tensor_roots=other_roots)), content),
            (forge.signed(6, replace(patch, tensor_roots={})), content),
        ],
        "MALFORMED_MANIFEST": [
            (forge.signed(6, replace(patch, model="models/other")), content)
        ],
    }
    for reason, generations in cases.items():
        for generation in generations:
            assert refusal(slot, generation) == reason
    assert put(slot, (manifest, content)).generation == 6


def test_weights_rounded_to_fewer_bits_are_another_base(
    forge: Forge, model: TextToImageModel
) -> None:
    slot = WeightSlot(forge.model, model.pipeline.unet.to(torch.bfloat16))
    assert refusal(slot, forge.generation(1, seed=1)) == "WRONG_BASE"


@pytest.mark.parametrize(
    ("name", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16)]
)
def test_a_model_held_in_half_precision_is_patched_from_the_published_weights(
    forge: Forge, model: TextToImageModel, name: str, dtype: torch.dtype
) -> None:
    unet = model.pipeline.unet.to(dtype)
    manifest, content = forge.generation(1, seed=1)
    slot = WeightSlot(forge.model, unet, pristine=forge.state)
    snapshot = slot.stage(manifest, content)
    held: dict[str, Tensor] = snapshot.unet.state_dict()
    assert {tensor.dtype for tensor in held.values()} == {dtype}
    assert Fingerprint.of(held, name).root == snapshot.tensor_root
    assert snapshot.tensor_root == manifest.patch.tensor_roots[name]


def test_weights_of_several_types_are_not_taken_over(model: TextToImageModel) -> None:
    unet = model.pipeline.unet
    unet.get_parameter("conv_in.weight").data = torch.zeros(64, 6, 3, 3).half()
    with pytest.raises(InvalidArgumentError):
        WeightSlot("models/petal", unet)


@pytest.mark.slow
def test_forwards_of_two_snapshots_in_two_threads_do_not_mix(
    slot: WeightSlot, forge: Forge
) -> None:
    """Each forward gives what its snapshot gives alone, while others run and swap."""
    snapshots = [slot.stage(*forge.generation(n, seed=n)) for n in (1, 2)]
    noise = torch.randn(1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    text = torch.randn(1, 77, 128, generator=torch.Generator().manual_seed(1))

    def forward(snapshot: Snapshot) -> Tensor:
        with torch.inference_mode():
            out: Tensor = snapshot.unet(noise, 500, text, return_dict=False)[0]
        return out

    alone = [forward(snapshot) for snapshot in snapshots]
    assert not torch.equal(*alone)
    whole: tuple[list[bool], list[bool]] = ([], [])

    def serve(index: int) -> None:
        for _ in range(15):
            same = torch.equal(forward(snapshots[index]), alone[index])
            whole[index].append(same)

    threads = [threading.Thread(target=serve, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for number in range(3, 8):
        put(slot, forge.generation(number, seed=number))
    for thread in threads:
        thread.join()
    assert whole == ([True] * 15, [True] * 15)
