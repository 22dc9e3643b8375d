"""Launches of the Triton kernels: allocation, strides, constants, grid."""

# The arguments are those of the registered operator, whose schema is positional.
# ruff: noqa: PLR0917

import contextlib
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from myosotis_kernels.cross_attention import kernel
from myosotis_kernels.cross_attention.reference import output_like
from myosotis_kernels.cross_attention.tiles import (
    Kernel,
    Tile,
    architecture,
    padded_width,
    row_splits,
    tile,
)

LOG2_E = 1.4426950408889634
INTERPRETED_ARCH = 90


def is_interpreted() -> bool:
    """Whether this process runs kernels in the interpreter.

    True when `TRITON_INTERPRET=1` was set before this module was imported.
    """
    return bool(knobs.runtime.interpret)


def constants(
    t: Tile,
    *,
    dtype: torch.dtype,
    width: int,
    power: int,
    row_weight: bool,
    key_bias: bool,
    interpreted: bool,
) -> dict[str, Any]:
    """Return the compile-time constants that all three kernels share."""
    return {
        "D": width,
        "DP": padded_width(width),
        "BM": t.rows,
        "TL": t.keys,
        "POWER": power,
        "HAS_R": row_weight,
        "HAS_BIAS": key_bias,
        # Triton's default for fp32 is TF32, an error of 3e-4. Other dtypes ignore it.
        "PRECISION": "ieee",
        "UPCAST": interpreted and dtype == torch.bfloat16,
    }


def grad_constants(
    *, dtype: torch.dtype, grad_o: bool, grad_mass: bool
) -> dict[str, Any]:
    """Return the compile-time constants of the two backward kernels."""
    return {
        "HAS_DO": grad_o,
        "HAS_DA": grad_mass,
        "SCALED": dtype == torch.float16,
    }


def _tile_for(which: Kernel, q: Tensor) -> Tile:
    if q.is_cuda:
        arch = architecture(torch.cuda.get_device_capability(q.device))
    else:
        arch = INTERPRETED_ARCH
    return tile(which, width=q.shape[-1], dtype=q.dtype, arch=arch)


def _on_device_of(q: Tensor) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext()


def _rows_contiguous(x: Tensor | None) -> Tensor | None:
    """Return x with its last dimension contiguous; a copy only where it is not."""
    return x if x is None or x.stride(-1) == 1 else x.contiguous()


def _small(x: Tensor | None) -> Tensor | None:
    return None if x is None else _rows_contiguous(x.to(torch.float32))


def _stride_b(x: Tensor | None) -> int:
    return 0 if x is None else x.stride(0)


def _strides(x: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if x is None else (x.stride(0), x.stride(1), x.stride(2))


def forward(
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    row_weight_BN: Tensor | None,
    key_bias_BL: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, mass [B, H, L] and log-sum-exp [B, H, N], the last two in fp32."""
    B, H, N, D = q_BHND.shape
    L = k_BHLD.shape[2]
    t = _tile_for(Kernel.FORWARD, q_BHND)
    row_weight, key_bias = _small(row_weight_BN), _small(key_bias_BL)
    row_blocks = triton.cdiv(N, t.rows)
    o = output_like(q_BHND)
    lse = q_BHND.new_empty((B, H, N), dtype=torch.float32)
    parts = q_BHND.new_empty((B, H, row_blocks, L), dtype=torch.float32)
    with _on_device_of(q_BHND):
        kernel.forward_kernel[(row_blocks, B * H)](
            q_BHND,
            k_BHLD,
            v_BHLD,
            row_weight,
            key_bias,
            o,
            lse,
            parts,
            *_strides(q_BHND),
            *_strides(k_BHLD),
            *_strides(v_BHLD),
            *_strides(o),
            _stride_b(row_weight),
            _stride_b(key_bias),
            H,
            N,
            L,
            scale * LOG2_E,
            TILES=triton.cdiv(L, t.keys),
            num_warps=t.warps,
            num_stages=t.stages,
            **constants(
                t,
                dtype=q_BHND.dtype,
                width=D,
                power=power,
                row_weight=row_weight is not None,
                key_bias=key_bias is not None,
                interpreted=is_interpreted(),
            ),
        )
    return o, parts.sum(dim=2), lse


def backward(
    grad_o_BHND: Tensor | None,
    grad_mass_BHL: Tensor | None,
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    lse_BHN: Tensor,
    row_weight_BN: Tensor | None,
    key_bias_BL: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of q, k and v; that of v is None without `grad_o`."""
    B, H, N, D = q_BHND.shape
    L = k_BHLD.shape[2]
    dtype = q_BHND.dtype
    row_weight, key_bias = _small(row_weight_BN), _small(key_bias_BL)
    grad_o = _rows_contiguous(grad_o_BHND)
    grad_mass = None
    if grad_mass_BHL is not None:
        grad_mass = grad_mass_BHL.to(torch.float32).contiguous()
    dq = output_like(q_BHND)
    delta = torch.empty_like(lse_BHN)
    inputs = (q_BHND, k_BHLD, v_BHLD, row_weight, key_bias, lse_BHN)
    strides = (
        *_strides(q_BHND),
        *_strides(k_BHLD),
        *_strides(v_BHLD),
        *_strides(grad_o),
    )
    small_strides = (_stride_b(row_weight), _stride_b(key_bias))
    shared: dict[str, Any] = {
        "dtype": dtype,
        "width": D,
        "power": power,
        "row_weight": row_weight is not None,
        "key_bias": key_bias is not None,
        "interpreted": is_interpreted(),
    }
    given = grad_constants(
        dtype=dtype, grad_o=grad_o is not None, grad_mass=grad_mass is not None
    )

    t = _tile_for(Kernel.GRAD_Q, q_BHND)
    with _on_device_of(q_BHND):
        kernel.grad_q_kernel[(triton.cdiv(N, t.rows), B * H)](
            *inputs,
            grad_o,
            grad_mass,
            dq,
            delta,
            *strides,
            *_strides(dq),
            *small_strides,
            H,
            N,
            L,
            scale,
            scale * LOG2_E,
            TILES=triton.cdiv(L, t.keys),
            num_warps=t.warps,
            num_stages=t.stages,
            **constants(t, **shared),
            **given,
        )

    t = _tile_for(Kernel.GRAD_KV, q_BHND)
    key_tiles = triton.cdiv(L, t.keys)
    splits, blocks = row_splits(
        groups=B * H, key_tiles=key_tiles, row_blocks=triton.cdiv(N, t.rows)
    )
    dk_parts = q_BHND.new_empty((B, H, splits, L, D), dtype=torch.float32)
    dv_parts = None if grad_o is None else torch.empty_like(dk_parts)
    with _on_device_of(q_BHND):
        kernel.grad_kv_kernel[(key_tiles, splits, B * H)](
            *inputs,
            delta,
            grad_o,
            grad_mass,
            dk_parts,
            dv_parts,
            *strides,
            *small_strides,
            H,
            N,
            L,
            scale,
            scale * LOG2_E,
            BLOCKS=blocks,
            num_warps=t.warps,
            num_stages=t.stages,
            **constants(t, **shared),
            **given,
        )
    dk = dk_parts.sum(dim=2).to(dtype)
    return dq, dk, None if dv_parts is None else dv_parts.sum(dim=2).to(dtype)
