"""Patched weights: what a manifest and its tensors make of the pristine base.

The result is the same on every machine and thread count, bit for bit, for CPU and GPU
servers alike: it is computed on the CPU, low-rank terms one after the other in float64
(:mod:`myosotis.unlearning.changes`), rounded once to float32. A server then casts it to
the type in which it holds the model. So a manifest can state the digest of the live
tensors, and a server that finds another one knows that something is wrong.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import PatchedTensor, PatchManifest
from myosotis.unlearning.changes import Change, Dense, LowRank, changed_tensors


def changes_of(
    manifest: PatchManifest, tensors: Mapping[str, Tensor]
) -> dict[str, Change]:
    """The changes that *manifest* describes, by tensor name.

    Args:
        manifest: of the patch.
        tensors: by key, from :func:`.tensor_files.read_verified`.
    """
    return {entry.name: _change(entry, tensors) for entry in manifest.tensors}


def patched_tensors(
    base: Mapping[str, Tensor], manifest: PatchManifest, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors that the patch changes, float32 on the CPU; no others.

    Args:
        base: the pristine weights, as loaded; only read. What an earlier patch made
            of them must never be given here.
        manifest: of the patch.
        tensors: by key, from :func:`.tensor_files.read_verified`.

    Raises:
        PatchRefusedError: NOT_FINITE, where finite factors add up to more than float32
            holds.
    """
    changes = changes_of(manifest, tensors)
    patched = changed_tensors({name: base[name].cpu() for name in changes}, changes)
    for name, tensor in patched.items():
        if not bool(torch.isfinite(tensor).all()):
            raise PatchRefusedError("NOT_FINITE", f"{name} is not finite once patched")
    return patched


def _change(entry: PatchedTensor, tensors: Mapping[str, Tensor]) -> Change:
    if entry.form == "dense":
        return Dense(tensors[entry.keys[0]])
    up, down = entry.keys
    return LowRank(tensors[up], tensors[down])
