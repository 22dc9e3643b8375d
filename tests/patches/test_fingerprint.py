import hashlib
import json
import struct

import pytest
import torch
from myosotis.patches.fingerprint import Fingerprint, base_digest, fingerprints
from myosotis.patches.manifest import ROOT_DTYPES
from torch import Tensor

Weights = dict[str, Tensor]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_the_root_is_what_the_definition_says() -> None:
    """Written out by hand, so that a second implementation can agree with it."""
    tensors = {"b": torch.tensor([[1.0, -2.0]]), "a": torch.tensor(0.5)}
    leaves = [
        sha(compact(["a", "F32", [], sha(struct.pack("<f", 0.5))])),
        sha(compact(["b", "F32", [1, 2], sha(struct.pack("<ff", 1, -2))])),
    ]
    assert base_digest(tensors) == sha(compact(leaves))


def test_every_element_type_has_its_own_root(base: Weights) -> None:
    roots = {dtype: f.root for dtype, f in fingerprints(base).items()}
    assert set(roots) == set(ROOT_DTYPES)
    assert len(set(roots.values())) == len(ROOT_DTYPES)
    half = {name: tensor.half() for name, tensor in base.items()}
    assert Fingerprint.of(half, "F16").root == roots["F16"]


def test_replacing_tensors_equals_hashing_all_of_them(base: Weights) -> None:
    changed = {"conv.bias": base["conv.bias"] + 1}
    kept = Fingerprint.of(base)
    assert kept.with_tensors(changed).root == base_digest({**base, **changed})
    assert kept.with_tensors(changed).with_tensors(base).root == kept.root


def test_only_the_changed_leaves_are_renewed(base: Weights) -> None:
    kept = Fingerprint.of(base)
    renewed = kept.with_tensors({"conv.bias": base["conv.bias"] + 1})
    differ = {n for n in base if kept.leaves[n] != renewed.leaves[n]}
    assert differ == {"conv.bias"}


@pytest.mark.parametrize("edit", ["name", "shape", "bit", "missing"])
def test_any_difference_gives_another_root(base: Weights, edit: str) -> None:
    other = {name: tensor.clone() for name, tensor in base.items()}
    bias = other.pop("conv.bias")
    if edit == "name":
        other["conv.bios"] = bias
    elif edit == "shape":
        other["conv.bias"] = bias.reshape(2, 2)
    elif edit == "bit":
        bias.view(torch.int32)[0] ^= 1
        other["conv.bias"] = bias
    assert base_digest(other) != base_digest(base)


def test_layout_in_memory_does_not_count(base: Weights) -> None:
    kernel = base["conv.weight"].to(memory_format=torch.channels_last)
    assert base_digest({**base, "conv.weight": kernel}) == base_digest(base)


def test_unknown_names_and_whole_numbers_are_refused(base: Weights) -> None:
    with pytest.raises(ValueError, match="no such tensor"):
        Fingerprint.of(base).with_tensors({"conv.bios": base["conv.bias"]})
    with pytest.raises(ValueError, match="no floats"):
        base_digest({"count": torch.tensor([1])})
