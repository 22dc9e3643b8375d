"""Whether a patch may be used: the checks that need no tensor, in their order.

Cheapest first, and each before anything is built from what it checks: base, sizes,
digest, names and shapes, header, values (:mod:`.tensor_files`), root. Every refusal is
a PatchRefusedError with a reason of ``Refusal.Reason``.
"""

from collections.abc import Mapping
from math import prod

from myosotis.digests import Digest
from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import PatchedTensor, PatchManifest

Shape = tuple[int, ...]

_ELEMENT_BYTES = 4


def check_base(manifest: PatchManifest, *, model: str, base_digest: str) -> None:
    """Refuse a patch for another model or other base weights: WRONG_BASE."""
    if manifest.model != model:
        raise PatchRefusedError("WRONG_BASE", f"made for {manifest.model}, not {model}")
    if manifest.base_digest != base_digest:
        raise PatchRefusedError(
            "WRONG_BASE",
            f"made for base {manifest.base_digest[:12]}, not {base_digest[:12]}",
        )


def check_content(manifest: PatchManifest, content: bytes) -> None:
    """Refuse a tensor file that is not the one of the manifest: BAD_BLOB."""
    if manifest.tensor_file is None:
        if content:
            raise PatchRefusedError("BAD_BLOB", "the manifest names no tensor file")
        return
    if len(content) != manifest.tensor_file.size_bytes:
        raise PatchRefusedError(
            "BAD_BLOB",
            f"{len(content)} bytes, not {manifest.tensor_file.size_bytes}",
        )
    if Digest.of(content) != manifest.tensor_file:
        raise PatchRefusedError("BAD_BLOB", "the bytes do not match their digest")


def check_root(manifest: PatchManifest, *, dtype: str, root: str) -> None:
    """Refuse tensors that are not those that were measured: WRONG_TENSOR_ROOT.

    Args:
        manifest: says which root the tensors must have.
        dtype: name of the element type in which the server holds them.
        root: of all tensors of the UNet after patching, unchanged ones included.
    """
    wanted = manifest.tensor_roots.get(dtype)
    if wanted is None:
        raise PatchRefusedError("WRONG_TENSOR_ROOT", f"not made to be held as {dtype}")
    if root != wanted:
        raise PatchRefusedError(
            "WRONG_TENSOR_ROOT", f"built {root[:12]}, not {wanted[:12]}"
        )


def expected_shapes(
    manifest: PatchManifest, base_shapes: Mapping[str, Shape]
) -> dict[str, Shape]:
    """The keys that the tensor file must have, exactly these, and their shapes.

    Raises:
        PatchRefusedError: TENSOR_MISMATCH, when the manifest contradicts itself or
            the base.
    """
    if (manifest.tensor_file is None) != (not manifest.tensors):
        raise _mismatch("tensors without a file, or a file without tensors")
    names = [tensor.name for tensor in manifest.tensors]
    if names != sorted(set(names)):
        raise _mismatch("tensor names are not sorted, or not distinct")
    shapes: dict[str, Shape] = {}
    for tensor in manifest.tensors:
        _check_tensor(tensor, base_shapes)
        own, shared = _key_shapes(tensor)
        for key, shape in own.items():
            if key in shapes:
                raise _mismatch(f"key {key!r} is used twice")
            shapes[key] = shape
        for key, shape in shared.items():
            if shapes.setdefault(key, shape) != shape:
                raise _mismatch(f"key {key!r} is used with two shapes")
    _check_size(manifest, shapes)
    return shapes


def _check_tensor(tensor: PatchedTensor, base_shapes: Mapping[str, Shape]) -> None:
    base_shape = base_shapes.get(tensor.name)
    if base_shape is None:
        raise _mismatch(f"the base has no tensor {tensor.name!r}")
    if tensor.shape != base_shape:
        raise _mismatch(f"{tensor.name} is {tensor.shape}, in the base {base_shape}")
    if tensor.form == "dense":
        well_formed = len(tensor.keys) == 1 and tensor.rank == 0
    elif tensor.form == "low_rank":
        well_formed = (
            len(set(tensor.keys)) == 2  # noqa: PLR2004 - up and down
            and len(tensor.keys) == 2  # noqa: PLR2004 - up and down
            and len(tensor.shape) == 2  # noqa: PLR2004 - a matrix
            and 1 <= tensor.rank <= min(tensor.shape)
        )
    else:
        raise _mismatch(f"{tensor.name}: unknown form {tensor.form!r}")
    if not well_formed:
        raise _mismatch(f"{tensor.name}: keys, shape or rank do not fit {tensor.form}")


def _key_shapes(tensor: PatchedTensor) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Keys that belong to this tensor alone, and keys that others may name too."""
    if tensor.form == "dense":
        return {tensor.keys[0]: tensor.shape}, {}
    outputs, inputs = tensor.shape
    up, down = tensor.keys
    return {up: (outputs, tensor.rank)}, {down: (tensor.rank, inputs)}


def _check_size(manifest: PatchManifest, shapes: Mapping[str, Shape]) -> None:
    """The file cannot be smaller than its tensors."""
    size = manifest.tensor_file.size_bytes if manifest.tensor_file else 0
    needed = sum(prod(shape) * _ELEMENT_BYTES for shape in shapes.values())
    if size < needed:
        raise _mismatch(f"{needed} bytes of tensors in a file of {size}")


def _mismatch(detail: str) -> PatchRefusedError:
    return PatchRefusedError("TENSOR_MISMATCH", detail)
