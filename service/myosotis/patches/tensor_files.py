"""Tensor files: changes as safetensors bytes, and back, believing nothing.

Writing is done here rather than by the safetensors package, because the bytes are
content-addressed: the same changes give the same file under every version of it.
Header keys are sorted, data follow in the same order without gaps, all F32; the JSON is
padded with spaces to a multiple of 8 bytes, as the format allows.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from myosotis.digests import Digest
from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import PatchedTensor, PatchManifest
from myosotis.patches.verification import Shape, check_content, expected_shapes
from myosotis.unlearning.changes import Change, LowRank

MAX_HEADER_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct("<Q")
_ELEMENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file and what a manifest says of it; no bytes where nothing changes."""

    content: bytes
    tensors: tuple[PatchedTensor, ...]

    @property
    def digest(self) -> Digest | None:
        return Digest.of(self.content) if self.content else None


def write_tensor_file(
    base: Mapping[str, Tensor], changes: Mapping[str, Change]
) -> TensorFile:
    """Write *changes* to tensors of *base*, in their smallest exact form.

    Low-rank factors are kept where they are smaller than the dense tensor, counting a
    shared ``down`` once. Both forms give the same patched tensors, bit for bit.

    Raises:
        ValueError: an unknown tensor, another shape, or values that are not finite.
    """
    arrays: dict[str, Tensor] = {}
    patched: list[PatchedTensor] = []
    for names in _by_down(changes):
        smaller = _low_rank_is_smaller([changes[name] for name in names])
        down_key = f"down/{names[0]}"
        for name in names:
            change, shape = changes[name], tuple(base[name].shape)
            if smaller and isinstance(change, LowRank):
                keys = (f"up/{name}", down_key)
                arrays |= {keys[0]: change.up, keys[1]: change.down}
                entry = PatchedTensor(name, shape, "low_rank", keys, change.rank)
            else:
                entry = PatchedTensor(name, shape, "dense", (f"dense/{name}",))
                arrays[entry.keys[0]] = change.applied(base[name])
            patched.append(entry)
    for key, array in arrays.items():
        if not bool(torch.isfinite(array).all()):
            raise ValueError(f"{key} is not finite")
    patched.sort(key=lambda entry: entry.name)
    return TensorFile(_encode(arrays) if arrays else b"", tuple(patched))


def read_verified(
    content: bytes, manifest: PatchManifest, base_shapes: Mapping[str, Shape]
) -> dict[str, Tensor]:
    """The tensors of a file by key, once everything about it has been checked.

    Args:
        content: the bytes that arrived; empty where the manifest names no file.
        manifest: what they must be.
        base_shapes: shape of every tensor of the base UNet.

    Raises:
        PatchRefusedError: BAD_BLOB, TENSOR_MISMATCH or NOT_FINITE.
    """
    shapes = expected_shapes(manifest, base_shapes)
    check_content(manifest, content)
    if not content:
        return {}
    start, offsets = _read_header(content, shapes)
    tensors: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        array = np.frombuffer(content, "<f4", prod(shape), start + offsets[key])
        if not bool(np.isfinite(array).all()):
            raise PatchRefusedError("NOT_FINITE", f"{key} is not finite")
        tensors[key] = torch.from_numpy(array.astype(np.float32).reshape(shape))
    return tensors


def _by_down(changes: Mapping[str, Change]) -> list[list[str]]:
    """Names grouped by the ``down`` they share, sorted, first names in order."""
    groups: dict[int, list[str]] = {}
    for name in sorted(changes):
        change = changes[name]
        shared = change.down if isinstance(change, LowRank) else change
        groups.setdefault(id(shared), []).append(name)
    return list(groups.values())


def _low_rank_is_smaller(changes: list[Change]) -> bool:
    """Whether factors that share their ``down`` are smaller than what they change."""
    factors = [change for change in changes if isinstance(change, LowRank)]
    if not factors or any(f.rank > len(f.up) for f in factors):
        return False
    down = factors[0].down
    sizes = down.numel() + sum(f.up.numel() for f in factors)
    return sizes < sum(len(f.up) * down.shape[1] for f in factors)


def _encode(arrays: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes of float32 *arrays*."""
    header: dict[str, object] = {}
    chunks: list[bytes] = []
    position = 0
    for key in sorted(arrays):
        chunk = arrays[key].detach().cpu().contiguous().numpy().astype("<f4").tobytes()
        header[key] = {
            "dtype": "F32",
            "shape": list(arrays[key].shape),
            "data_offsets": [position, position + len(chunk)],
        }
        chunks.append(chunk)
        position += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([_LENGTH.pack(len(text)), text, *chunks])


def _read_header(
    content: bytes, shapes: Mapping[str, Shape]
) -> tuple[int, dict[str, int]]:
    """Where the data start, and the offset of each key from there.

    The header must say of the keys of *shapes* exactly what follows from them, and the
    data must fill the rest of the file without gap or overlap.
    """
    start = _data_start(content)
    try:
        header = json.loads(
            content[_LENGTH.size : start], object_pairs_hook=_without_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise _mismatch("the header is no JSON object with distinct keys") from error
    if not isinstance(header, dict) or header.keys() != shapes.keys():
        raise _mismatch("the file has other keys than the manifest")
    offsets: dict[str, int] = {}
    for key, shape in shapes.items():
        begin = _offset(header[key], shape)
        if begin is None:
            raise _mismatch(f"{key} is not F32 {shape}")
        offsets[key] = begin
    position = 0
    for key in sorted(offsets, key=offsets.__getitem__):
        if offsets[key] != position:
            raise _mismatch(f"gap or overlap before {key}")
        position += prod(shapes[key]) * _ELEMENT_BYTES
    if start + position != len(content):
        raise _mismatch("bytes after the last tensor")
    return start, offsets


def _data_start(content: bytes) -> int:
    if len(content) < _LENGTH.size:
        raise _mismatch("the file has no header")
    (length,) = _LENGTH.unpack_from(content)
    if length > min(MAX_HEADER_BYTES, len(content) - _LENGTH.size):
        raise _mismatch(f"a header of {length} bytes")
    return _LENGTH.size + int(length)


def _offset(entry: object, shape: Shape) -> int | None:
    """Where the data of a header entry begin; None unless it is F32 of *shape*."""
    match entry:
        case {
            "dtype": "F32",
            "shape": list(found),
            "data_offsets": [int(begin), int(end)],
            **others,
        } if not others:
            fits = (
                all(type(n) is int for n in (begin, end, *found))
                and tuple(found) == shape
                and begin >= 0
                and end == begin + prod(shape) * _ELEMENT_BYTES
            )
            return begin if fits else None
    return None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _mismatch(detail: str) -> PatchRefusedError:
    return PatchRefusedError("TENSOR_MISMATCH", detail)
