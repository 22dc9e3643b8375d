import subprocess
import sys
from pathlib import Path

import pytest
import torch
from myosotis.errors import PatchRefusedError
from myosotis.patches.fingerprint import base_digest
from myosotis.patches.manifest import PatchManifest
from myosotis.patches.tensor_files import TensorFile, read_verified, write_tensor_file
from myosotis.patches.weights import patched_tensors
from myosotis.unlearning.changes import Change, Dense, LowRank, changed_tensors
from torch import Tensor

Weights = dict[str, Tensor]

_RECONSTRUCT = """
import hashlib, sys, torch
from myosotis.unlearning.changes import LowRank
torch.set_num_threads(int(sys.argv[1]))
numbers = torch.Generator().manual_seed(7)
base, up, down = (
    torch.randn(s, generator=numbers) for s in ((700, 320), (700, 33), (33, 320))
)
patched = LowRank(up, down).applied(base)
print(hashlib.sha256(patched.numpy().tobytes()).hexdigest())
"""


def shapes(base: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in base.items()}


def test_what_arrives_is_what_was_built(
    base: Weights,
    changes: dict[str, Change],
    file: TensorFile,
    manifest: PatchManifest,
) -> None:
    tensors = read_verified(file.content, manifest, shapes(base))
    patched = patched_tensors(base, manifest, tensors)
    built = changed_tensors(base, changes)
    assert patched.keys() == changes.keys()
    assert all(torch.equal(patched[name], built[name]) for name in built)
    assert base_digest({**base, **patched}) == manifest.tensor_roots["F32"]


def test_a_patch_never_touches_the_base(
    base: Weights, file: TensorFile, manifest: PatchManifest
) -> None:
    """Patched, then base again: bit for bit, because the base was only read."""
    before = base_digest(base)
    tensors = read_verified(file.content, manifest, shapes(base))
    for _ in range(3):
        for tensor in patched_tensors(base, manifest, tensors).values():
            tensor.fill_(0)
    assert base_digest(base) == before == manifest.base_digest
    assert all(bool(t.any()) for t in patched_tensors(base, manifest, tensors).values())


def test_low_rank_is_the_product_rounded_once() -> None:
    numbers = torch.Generator().manual_seed(3)
    base, up, down = (
        torch.randn(s, generator=numbers) for s in ((40, 24), (40, 9), (9, 24))
    )
    patched = LowRank(up, down).applied(base)
    exact = base.double() + up.double() @ down.double()
    # Half a unit in the last place of float32, and the sums of float64 beside it.
    assert float(((patched.double() - exact) / exact).abs().max()) < 2**-24 + 1e-9


def test_low_rank_is_a_fixed_chain_of_additions() -> None:
    """Element by element in Python, whose floats are IEEE doubles."""
    numbers = torch.Generator().manual_seed(4)
    base, up, down = (
        torch.randn(s, generator=numbers) for s in ((5, 4), (5, 7), (7, 4))
    )
    patched = LowRank(up, down).applied(base)
    for o, row in enumerate(base.tolist()):
        for i, value in enumerate(row):
            total = value
            for left, right in zip(up[o].tolist(), down[:, i].tolist(), strict=True):
                total += left * right
            assert patched[o, i] == torch.tensor(total, dtype=torch.float64).float()


@pytest.mark.slow
def test_threads_and_processes_do_not_change_a_bit() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _RECONSTRUCT, threads],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def test_both_forms_give_the_same_bits(base: Weights) -> None:
    """A rank that is too high to be smaller is written dense, and changes nothing."""
    numbers = torch.Generator().manual_seed(5)
    name = "down.attn2.to_k.weight"
    change = LowRank(
        torch.randn((24, 15), generator=numbers),
        torch.randn((15, 16), generator=numbers),
    )
    (entry,) = write_tensor_file(base, {name: change}).tensors
    assert entry.form == "dense"
    dense = Dense(change.applied(base[name]))
    assert torch.equal(dense.applied(base[name]), change.applied(base[name]))


def test_values_beyond_float32_are_refused(base: Weights) -> None:
    name = "down.attn2.to_k.weight"
    huge = LowRank(torch.full((24, 1), 3e38), torch.full((1, 16), 3e38))
    file = write_tensor_file(base, {name: huge})
    manifest = PatchManifest(
        model="models/tiny",
        base_digest=base_digest(base),
        plan_digest="",
        policy_revision=0,
        concepts=(),
        methods={},
        tensor_roots={},
        tensor_file=file.digest,
        tensors=file.tensors,
    )
    tensors = read_verified(file.content, manifest, shapes(base))
    with pytest.raises(PatchRefusedError) as refused:
        patched_tensors(base, manifest, tensors)
    assert refused.value.refusal == "NOT_FINITE"


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (torch.zeros(4, 2), torch.zeros(3, 4)),
        (torch.zeros(4, 0), torch.zeros(0, 4)),
        (torch.zeros(4, 2).double(), torch.zeros(2, 4)),
        (torch.zeros(4), torch.zeros(4, 4)),
    ],
)
def test_factors_that_do_not_fit_are_refused(up: Tensor, down: Tensor) -> None:
    with pytest.raises(ValueError, match=r"rank|matrix"):
        LowRank(up, down)
