import pytest
import torch
from myosotis.digests import Digest
from myosotis.patches.fingerprint import Fingerprint, fingerprints
from myosotis.patches.manifest import PatchManifest
from myosotis.patches.tensor_files import TensorFile, write_tensor_file
from myosotis.unlearning.changes import Change, Dense, LowRank, changed_tensors
from torch import Tensor

Weights = dict[str, Tensor]


@pytest.fixture
def base() -> Weights:
    """Seven tensors of a make-believe UNet."""
    numbers = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "conv.weight": (4, 3, 3, 3),
        "conv.bias": (4,),
        "down.attn2.to_k.weight": (24, 16),
        "down.attn2.to_v.weight": (24, 16),
        "up.attn2.to_k.weight": (40, 16),
        "up.attn2.to_v.weight": (40, 16),
        "mid.attn2.to_q.weight": (24, 24),
    }
    return {name: torch.randn(s, generator=numbers) for name, s in shapes.items()}


@pytest.fixture
def changes(base: Weights) -> dict[str, Change]:
    """Low rank with one shared factor, and dense on a matrix and on a kernel."""
    numbers = torch.Generator().manual_seed(2)
    down = torch.randn((3, 16), generator=numbers)
    keys = [n for n in base if n.endswith(("to_k.weight", "to_v.weight"))]
    low_rank: dict[str, Change] = {
        n: LowRank(torch.randn((len(base[n]), 3), generator=numbers), down)
        for n in keys
    }
    dense: dict[str, Change] = {
        n: Dense(base[n] + torch.randn(base[n].shape, generator=numbers))
        for n in ("mid.attn2.to_q.weight", "conv.weight")
    }
    return {**dense, **low_rank}


@pytest.fixture
def file(base: Weights, changes: dict[str, Change]) -> TensorFile:
    return write_tensor_file(base, changes)


@pytest.fixture
def manifest(
    base: Weights, changes: dict[str, Change], file: TensorFile
) -> PatchManifest:
    patched = changed_tensors(base, changes)
    kept: dict[str, Fingerprint] = fingerprints(base)
    return PatchManifest(
        model="models/tiny",
        base_digest=kept["F32"].root,
        plan_digest="0" * 64,
        policy_revision=1,
        concepts=("policies/p/concepts/dog",),
        methods={"policies/p/concepts/dog": "CLOSED_FORM"},
        tensor_roots={d: f.with_tensors(patched).root for d, f in kept.items()},
        tensor_file=Digest.of(file.content),
        tensors=file.tensors,
    )
