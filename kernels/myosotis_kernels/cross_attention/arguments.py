"""Which arguments are right, and which of them the kernels take.

Legend: B batch, H heads, N image rows, L text keys, D head width.
"""

# The arguments are those of the operation.
# ruff: noqa: PLR0917

import functools
import importlib.util
import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from myosotis_kernels.cross_attention.tiles import unsupported

Implementation: TypeAlias = Literal["auto", "triton", "reference", "interpreter"]

# The second and third dimension of a launch grid are 16 bits wide.
_MAX_GROUPS = 65_535
_MAX_OFFSET = 2**31 - 1


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row_weight: Tensor | None,
    key_bias: Tensor | None,
    power: int,
    scale: float | None,
    implementation: str,
) -> None:
    """Raise the errors that `attention_with_mass` promises."""
    if power not in {1, 2}:
        raise ValueError(f"power is {power}, not 1 or 2")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale is {scale}, not finite")
    if implementation not in get_args(Implementation):
        raise ValueError(f"unknown implementation {implementation!r}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"dtypes differ: q {q.dtype}, k {k.dtype}, v {v.dtype}")
    if not q.dtype.is_floating_point or q.dtype.itemsize < 2:  # noqa: PLR2004
        raise TypeError(f"{q.dtype} is not fp16, bf16, fp32 or fp64")
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape:  # noqa: PLR2004
        raise ValueError(
            f"shapes are q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
            "not [B, H, N, D], [B, H, L, D], [B, H, L, D]"
        )
    B, H, N, D = q.shape
    L = k.shape[2]
    if k.shape != (B, H, L, D):
        raise ValueError(f"k is {tuple(k.shape)}, not {(B, H, L, D)}")
    if 0 in {B, H, N, L, D}:
        raise ValueError(f"empty input: q {tuple(q.shape)}, k {tuple(k.shape)}")
    _check_small("row_weight", row_weight, (B, N), q.device)
    _check_small("key_bias", key_bias, (B, L), q.device)
    if not q.device == k.device == v.device:
        raise ValueError(f"devices differ: q {q.device}, k {k.device}, v {v.device}")


def _check_small(
    name: str, x: Tensor | None, shape: tuple[int, int], device: torch.device
) -> None:
    if x is None:
        return
    if x.shape != shape or x.device != device or not x.dtype.is_floating_point:
        raise ValueError(
            f"{name} is {tuple(x.shape)} {x.dtype} on {x.device}, "
            f"not {shape} floating on {device}"
        )
    if x.requires_grad:
        raise ValueError(f"{name} requires a gradient and gets none")


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why the kernels would not compute these inputs, or None if they would.

    Args:
        q: Queries, [B, H, N, D].
        k: Keys, [B, H, L, D].
        v: Values, [B, H, L, D].
    """
    return device_reason(q.device.type, q.device.index) or shape_reason(q, k, v)


def shape_reason(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why no kernel takes the shapes, dtype and strides, or None."""
    B, H, _, D = q.shape
    reason = unsupported(width=D, keys=k.shape[2], dtype=q.dtype)
    if reason is not None:
        return reason
    if B * H > _MAX_GROUPS:
        return f"batch x heads is {B * H}, more than {_MAX_GROUPS}"
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.stride(3) != 1:
            return f"the last dimension of {name} is not contiguous"
        if x.shape[2] * x.stride(2) > _MAX_OFFSET:
            return f"the rows of {name} span more than {_MAX_OFFSET} elements"
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def device_reason(device_type: str, index: int | None) -> str | None:
    """Return why the kernels cannot run on a device, or None; asked once."""
    return _asked_device_reason(device_type, index)


@functools.cache
def _asked_device_reason(device_type: str, index: int | None) -> str | None:
    if device_type != "cuda":
        return f"the inputs are on {device_type} and the kernels need a CUDA device"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "this PyTorch has no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    major, minor = torch.cuda.get_device_capability(index)
    if major < 8:  # noqa: PLR2004
        return f"compute capability {major}.{minor} is below 8.0"
    return None
