"""Whether what the control plane asks for may be done, given what is held here.

Decisions only: they raise :class:`PatchRefusedError`, and what is served stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import GenerationManifest
from myosotis.patches.verification import Shape, check_base, expected_shapes

# Beside the tensors, a tensor file holds a header of at most this size.
MAX_HEADER_BYTES = 16 * 1024 * 1024
_ELEMENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Holding:
    """What one inference server holds.

    Attributes:
        model: ``models/{model}``.
        base_digest: digest of its base weights.
        shapes: shape of every tensor of its UNet, by name.
        dtype: element type in which it holds the model, F32, F16 or BF16.
        active_generation: what it serves; 0 when nothing, and then it is not ready.
        staged_generation: what it has built beside that; 0 when nothing.
    """

    model: str
    base_digest: str
    shapes: Mapping[str, Shape]
    dtype: str
    active_generation: int = 0
    staged_generation: int = 0


def check_offer(offered: int, manifest: GenerationManifest, holding: Holding) -> None:
    """Let *manifest*, offered as generation *offered*, be fetched and built.

    Cheapest first; nothing that it names has been fetched yet.

    Raises:
        PatchRefusedError: MALFORMED_MANIFEST, WRONG_BASE, STALE_GENERATION,
            WRONG_TENSOR_ROOT, TENSOR_MISMATCH, or BAD_BLOB for a tensor file that is
            larger than what it is to hold.
    """
    if manifest.generation != offered or offered < 1:
        raise PatchRefusedError(
            "MALFORMED_MANIFEST",
            f"offered as generation {offered}, says generation {manifest.generation}",
        )
    if manifest.model != manifest.patch.model:
        raise PatchRefusedError(
            "MALFORMED_MANIFEST",
            f"a patch for {manifest.patch.model}, not {manifest.model}",
        )
    check_base(manifest.patch, model=holding.model, base_digest=holding.base_digest)
    if manifest.generation <= holding.active_generation:
        raise PatchRefusedError(
            "STALE_GENERATION",
            f"generation {holding.active_generation} is served already",
        )
    if holding.dtype not in manifest.patch.tensor_roots:
        raise PatchRefusedError(
            "WRONG_TENSOR_ROOT", f"not made to be held as {holding.dtype}"
        )
    _check_tensor_file(manifest, holding)


def _check_tensor_file(manifest: GenerationManifest, holding: Holding) -> None:
    shapes = expected_shapes(manifest.patch, holding.shapes)
    file = manifest.patch.tensor_file
    if file is None:
        return
    # Without a bound, a manifest could fill the memory before a byte is verified.
    tensor_bytes = sum(prod(shape) * _ELEMENT_BYTES for shape in shapes.values())
    if file.size_bytes > tensor_bytes + MAX_HEADER_BYTES:
        raise PatchRefusedError(
            "BAD_BLOB", f"{file.size_bytes} bytes for {tensor_bytes} of tensors"
        )


def check_activation(generation: int, holding: Holding) -> None:
    """Let *generation* be served from now on.

    Raises:
        PatchRefusedError: STALE_GENERATION for one older than what is served,
            NOT_STAGED for one that is neither staged nor served.
    """
    if generation < holding.active_generation:
        raise PatchRefusedError(
            "STALE_GENERATION",
            f"generation {holding.active_generation} is served already",
        )
    if generation not in (holding.active_generation, holding.staged_generation):
        raise PatchRefusedError(
            "NOT_STAGED", f"staged is generation {holding.staged_generation}"
        )
