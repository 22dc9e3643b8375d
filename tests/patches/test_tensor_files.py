import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch
from myosotis.digests import Digest
from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import PatchedTensor, PatchManifest
from myosotis.patches.tensor_files import TensorFile, read_verified, write_tensor_file
from myosotis.patches.verification import check_base, check_root
from myosotis.unlearning.changes import Change, Dense, LowRank
from torch import Tensor

Weights = dict[str, Tensor]
Header = dict[str, Any]


def shapes(base: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in base.items()}


def split(content: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Header | str, data: bytes) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def refusal(content: bytes, manifest: PatchManifest, base: Weights) -> str:
    with pytest.raises(PatchRefusedError) as refused:
        read_verified(content, manifest, shapes(base))
    return refused.value.refusal


def test_other_readers_understand_the_file(file: TensorFile) -> None:
    read = safetensors.torch.load(file.content)
    assert read.keys() == {key for entry in file.tensors for key in entry.keys}


def test_a_shared_factor_is_stored_once(file: TensorFile) -> None:
    low_rank = [entry for entry in file.tensors if entry.form == "low_rank"]
    assert len(low_rank) == 4
    assert len({entry.keys[1] for entry in low_rank}) == 1
    header, _ = split(file.content)
    assert sum(key.startswith("down/") for key in header) == 1


def test_the_same_changes_give_the_same_bytes(
    base: Weights, changes: dict[str, Change], file: TensorFile
) -> None:
    backwards = dict(reversed(changes.items()))
    assert write_tensor_file(base, backwards) == file


def test_nothing_changed_is_no_file(base: Weights, manifest: PatchManifest) -> None:
    nothing = write_tensor_file(base, {})
    assert (nothing.content, nothing.digest, nothing.tensors) == (b"", None, ())
    empty = replace(manifest, tensor_file=None, tensors=())
    assert read_verified(b"", empty, shapes(base)) == {}
    assert refusal(b"x", empty, base) == "BAD_BLOB"


def test_values_that_are_not_finite_are_not_written(base: Weights) -> None:
    broken = Dense(torch.full_like(base["conv.bias"], torch.nan))
    with pytest.raises(ValueError, match="not finite"):
        write_tensor_file(base, {"conv.bias": broken})


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "tamper",
    [
        flipped,
        lambda c: c[:-1],
        lambda c: c + b"\0",
        lambda _: b"",
        lambda c: b"\x80\x04" + c[2:],
    ],
    ids=["bit", "short", "long", "empty", "pickle"],
)
def test_other_bytes_are_a_bad_blob(
    tamper: Callable[[bytes], bytes],
    base: Weights,
    file: TensorFile,
    manifest: PatchManifest,
) -> None:
    assert refusal(tamper(file.content), manifest, base) == "BAD_BLOB"


def _lie(header: Header, field: str, value: object) -> Header:
    key = min(header)
    return {**header, key: {**header[key], field: value}}


HEADERS: dict[str, Callable[[Header], Header | str]] = {
    "extra key": lambda h: {**h, "more": h[min(h)]},
    "missing key": lambda h: {k: v for k, v in h.items() if k != min(h)},
    "metadata": lambda h: {**h, "__metadata__": {"a": "b"}},
    "dtype": lambda h: _lie(h, "dtype", "F16"),
    "shape": lambda h: _lie(h, "shape", [1]),
    "shape of text": lambda h: _lie(h, "shape", ["4", 3, 3, 3]),
    "negative offset": lambda h: _lie(h, "data_offsets", [-432, 0]),
    "overlap": lambda h: _lie(h, "data_offsets", h[max(h)]["data_offsets"]),
    "fraction": lambda h: _lie(h, "data_offsets", [0.0, 432.0]),
    "no object": lambda _: "[]",
    "no JSON": lambda _: "{",
    "duplicate": lambda h: json.dumps(h)[:-1] + ', "dense/conv.weight": {}}',
    "deep": lambda _: "[" * 100_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_a_mismatch(
    name: str, base: Weights, file: TensorFile, manifest: PatchManifest
) -> None:
    """Even where the manifest vouches for the bytes."""
    header, data = split(file.content)
    content = join(HEADERS[name](header), data)
    vouched = replace(manifest, tensor_file=Digest.of(content))
    assert refusal(content, vouched, base) == "TENSOR_MISMATCH"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda c: struct.pack("<Q", 2**63) + c[8:],
        lambda c: c + b"\0\0\0\0",
        lambda c: c[:-4],
        lambda c: c[:5],
    ],
    ids=["huge header", "tail", "truncated", "no header"],
)
def test_sizes_that_do_not_add_up_are_a_mismatch(
    tamper: Callable[[bytes], bytes],
    base: Weights,
    file: TensorFile,
    manifest: PatchManifest,
) -> None:
    content = tamper(file.content)
    vouched = replace(manifest, tensor_file=Digest.of(content))
    assert refusal(content, vouched, base) == "TENSOR_MISMATCH"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(
    value: float, base: Weights, file: TensorFile, manifest: PatchManifest
) -> None:
    content = file.content[:-4] + struct.pack("<f", value)
    vouched = replace(manifest, tensor_file=Digest.of(content))
    assert refusal(content, vouched, base) == "NOT_FINITE"


def _edited(manifest: PatchManifest, index: int, **fields: object) -> PatchManifest:
    tensors = list(manifest.tensors)
    tensors[index] = replace(tensors[index], **fields)  # type: ignore[arg-type]  # wrong on purpose
    return replace(manifest, tensors=tuple(tensors))


# Index 0 is dense, index 1 of low rank.
MANIFESTS: dict[str, Callable[[PatchManifest], PatchManifest]] = {
    "unknown tensor": lambda m: _edited(m, 0, name="conv.wait"),
    "shape": lambda m: _edited(m, 0, shape=(4, 27)),
    "form": lambda m: _edited(m, 0, form="sparse"),
    "rank of a dense one": lambda m: _edited(m, 0, rank=1),
    "rank zero": lambda m: _edited(m, 1, rank=0),
    "rank too high": lambda m: _edited(m, 1, rank=17),
    "other rank": lambda m: _edited(m, 1, rank=4),
    "one key": lambda m: _edited(m, 1, keys=m.tensors[1].keys[:1]),
    "up is down": lambda m: _edited(m, 1, keys=m.tensors[1].keys[1:] * 2),
    "key used twice": lambda m: _edited(m, 2, keys=m.tensors[1].keys),
    "low rank of a kernel": lambda m: _edited(
        m, 0, form="low_rank", keys=m.tensors[1].keys, rank=3
    ),
    "not sorted": lambda m: replace(m, tensors=m.tensors[::-1]),
    "named twice": lambda m: replace(m, tensors=m.tensors[:1] * 2),
    "no tensors": lambda m: replace(m, tensors=()),
    "no file": lambda m: replace(m, tensor_file=None),
    "tensor left out": lambda m: replace(m, tensors=m.tensors[1:]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_does_not_fit_is_a_mismatch(
    name: str, base: Weights, file: TensorFile, manifest: PatchManifest
) -> None:
    wrong = MANIFESTS[name](manifest)
    assert refusal(file.content, wrong, base) == "TENSOR_MISMATCH"


def test_more_tensors_than_the_file_can_hold_are_refused_by_size(
    base: Weights, file: TensorFile, manifest: PatchManifest
) -> None:
    large = PatchedTensor("z", (2**40, 2**20), "dense", ("dense/z",))
    wrong = replace(manifest, tensors=(*manifest.tensors, large))
    with pytest.raises(PatchRefusedError, match="bytes of tensors"):
        read_verified(file.content, wrong, {**shapes(base), "z": large.shape})


def test_another_base_is_refused(manifest: PatchManifest) -> None:
    check_base(manifest, model="models/tiny", base_digest=manifest.base_digest)
    for model, digest in (
        ("models/x", manifest.base_digest),
        ("models/tiny", "f" * 64),
    ):
        with pytest.raises(PatchRefusedError) as refused:
            check_base(manifest, model=model, base_digest=digest)
        assert refused.value.refusal == "WRONG_BASE"


def test_another_root_is_refused(manifest: PatchManifest) -> None:
    check_root(manifest, dtype="F16", root=manifest.tensor_roots["F16"])
    for dtype in ("F32", "F64"):
        with pytest.raises(PatchRefusedError) as refused:
            check_root(manifest, dtype=dtype, root=manifest.tensor_roots["F16"])
        assert refused.value.refusal == "WRONG_TENSOR_ROOT"


def test_low_rank_is_kept_only_where_it_is_smaller(base: Weights) -> None:
    name = "down.attn2.to_k.weight"
    forms = {}
    for rank in (9, 10):
        change = LowRank(torch.ones(24, rank), torch.ones(rank, 16))
        forms[rank] = write_tensor_file(base, {name: change}).tensors[0].form
    # 24 x 16 = 384 values against 40 per rank.
    assert forms == {9: "low_rank", 10: "dense"}
