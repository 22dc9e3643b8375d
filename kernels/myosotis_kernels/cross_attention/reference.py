"""Cross-attention with attention mass in plain PyTorch.

`naive` is the ground truth: it materialises the probabilities and leaves the gradient
to autograd. The other functions are the closed form of the README, which is the CPU
path and the fallback on a GPU: with the probabilities kept between forward and
backward (`forward_kept`, `backward_kept`), or recomputed in blocks so that the extra
memory does not grow with the size (`forward_chunked`, `backward_chunked`).

Low-precision inputs are computed in fp32 and rounded once, at the output; fp64 stays
fp64, so the same functions serve as the oracle.

Legend: B batch, H heads, N image rows, L text keys, D head width. A suffix names the
axes: q_BHND is [B, H, N, D].
"""

# The arguments are those of the registered operator, whose schema is positional.
# ruff: noqa: PLR0917

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

# The scores of one block. On a CPU a block larger than the cache is slower; elsewhere
# the calls themselves cost more than a larger block does.
CHUNK_BYTES = 2 * 1024 * 1024
CHUNK_BYTES_OFF_CPU = 64 * 1024 * 1024

Slices: TypeAlias = tuple[slice, slice]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return fp64 for fp64 and fp32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def naive(
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    *,
    power: int = 2,
    row_weight_BN: Tensor | None = None,
    key_bias_BL: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention output and mass with every probability materialised.

    Arguments and results are those of `op.attention_with_mass`; differentiable by
    autograd in all floating inputs.
    """
    wide = accumulation_dtype(q_BHND.dtype)
    q, k, v = q_BHND.to(wide), k_BHLD.to(wide), v_BHLD.to(wide)
    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    bias, alive = _finite_bias(key_bias_BL, wide)
    if bias is not None:
        scores = scores + bias[:, None, None, :]
    p_BHNL = scores.softmax(dim=-1)
    if alive is not None:
        p_BHNL = p_BHNL * alive[:, None, None, None]
    mass = p_BHNL if power == 1 else p_BHNL.square()
    if row_weight_BN is not None:
        mass = mass * row_weight_BN.to(wide)[:, None, :, None]
    return (p_BHNL @ v).to(q_BHND.dtype), mass.sum(dim=-2)


def _finite_bias(
    key_bias_BL: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Split a bias into one that leaves some key in every sample, and who has any.

    Where every key of a sample is masked, softmax would be 0/0; its probabilities are
    defined as zero instead.
    """
    if key_bias_BL is None:
        return None, None
    bias = key_bias_BL.to(dtype)
    dead_B = (bias == float("-inf")).all(dim=-1)
    return bias.masked_fill(dead_B[:, None], 0.0), (~dead_B).to(dtype)


def output_like(q_BHND: Tensor) -> Tensor:
    """Return an uninitialised [B, H, N, D] with rows of all heads side by side.

    In this layout the output projection reads [B, N, H * D] without a copy.
    """
    B, H, N, D = q_BHND.shape
    return q_BHND.new_empty((B, N, H, D)).transpose(1, 2)


def _flat(x_BHXD: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring [B, H, X, D] to [B*H, X, D] in the given dtype."""
    return x_BHXD.to(dtype).flatten(0, 1)


def _probabilities(
    q_GND: Tensor,
    k_GLD: Tensor,
    bias_BL: Tensor | None,
    alive_B: Tensor | None,
    scale: float,
) -> Tensor:
    """Return softmax of the scores, [B*H, N, L]."""
    L = k_GLD.shape[1]
    scores = torch.baddbmm(
        q_GND.new_empty((1, 1, 1)), q_GND, k_GLD.mT, beta=0, alpha=scale
    )
    if bias_BL is not None and alive_B is not None:
        B = bias_BL.shape[0]
        grouped = scores.view(B, -1, L)
        grouped += bias_BL[:, None, :]
        p = torch.softmax(grouped, dim=-1)
        p *= alive_B[:, None, None]
        return p.view_as(scores)
    return torch.softmax(scores, dim=-1)


def _mass(p_GNL: Tensor, power: int, row_weight_BN: Tensor | None) -> Tensor:
    """Return the sum of r * p^power over the rows of one block, [B*H, L]."""
    if row_weight_BN is None:
        return p_GNL.sum(dim=1) if power == 1 else p_GNL.square().sum(dim=1)
    B, N = row_weight_BN.shape
    r_B1N = row_weight_BN.to(p_GNL.dtype)[:, None, :]
    p_BHNL = p_GNL.view(B, -1, N, p_GNL.shape[-1])
    weighed = p_BHNL if power == 1 else p_BHNL.square()
    return (r_B1N[:, :, None, :] @ weighed).flatten(0, 1).squeeze(1)


def _grad_scores(
    p_GNL: Tensor,
    grad_o_GND: Tensor | None,
    grad_mass_BHL: Tensor | None,
    v_GLD: Tensor,
    power: int,
    row_weight_BN: Tensor | None,
) -> Tensor:
    """Return dS = p * (g - sum(p * g)), g the gradient of the probabilities."""
    G, N, L = p_GNL.shape
    g = None if grad_o_GND is None else torch.bmm(grad_o_GND, v_GLD.mT)
    if grad_mass_BHL is not None:
        share = grad_mass_BHL.to(p_GNL.dtype)[:, :, None, :]
        if row_weight_BN is not None:
            share = share * row_weight_BN.to(p_GNL.dtype)[:, None, :, None]
        p_BHNL = p_GNL.view(*grad_mass_BHL.shape[:2], N, L)
        if g is None:
            g_BHNL = share.expand_as(p_BHNL) if power == 1 else p_BHNL * (2.0 * share)
            g = g_BHNL.reshape(G, N, L)
        elif power == 1:
            g.view_as(p_BHNL).add_(share)
        else:
            g.view_as(p_BHNL).addcmul_(share, p_BHNL, value=2.0)
    if g is None:
        return torch.zeros_like(p_GNL)
    return torch._softmax_backward_data(g, p_GNL, -1, p_GNL.dtype)  # noqa: SLF001


def forward_kept(
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    row_weight_BN: Tensor | None,
    key_bias_BL: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, mass and the probabilities [B, H, N, L] for `backward_kept`."""
    wide = accumulation_dtype(q_BHND.dtype)
    B, H, N, _ = q_BHND.shape
    bias, alive = _finite_bias(key_bias_BL, wide)
    p = _probabilities(_flat(q_BHND, wide), _flat(k_BHLD, wide), bias, alive, scale)
    o = output_like(q_BHND)
    o.copy_(torch.bmm(p, _flat(v_BHLD, wide)).view(o.shape))
    mass = _mass(p, power, row_weight_BN).view(B, H, -1)
    return o, mass, p.view(B, H, N, -1)


def backward_kept(
    grad_o_BHND: Tensor | None,
    grad_mass_BHL: Tensor | None,
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    p_BHNL: Tensor,
    row_weight_BN: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of q, k and v; that of v is None without `grad_o`."""
    wide = p_BHNL.dtype
    q, k, v = _flat(q_BHND, wide), _flat(k_BHLD, wide), _flat(v_BHLD, wide)
    p = p_BHNL.flatten(0, 1)
    grad_o = None if grad_o_BHND is None else _flat(grad_o_BHND, wide)
    ds = _grad_scores(p, grad_o, grad_mass_BHL, v, power, row_weight_BN)
    zero = q.new_empty((1, 1, 1))
    dq = output_like(q_BHND)
    dq.copy_(torch.baddbmm(zero, ds, k, beta=0, alpha=scale).view(dq.shape))
    dk = output_like(k_BHLD)
    dk.copy_(torch.baddbmm(zero, ds.mT, q, beta=0, alpha=scale).view(dk.shape))
    if grad_o is None:
        return dq, dk, None
    dv = output_like(v_BHLD)
    dv.copy_(torch.bmm(p.mT, grad_o).view(dv.shape))
    return dq, dk, dv


def blocks(
    B: int, H: int, N: int, L: int, itemsize: int, *, is_on_cpu: bool = True
) -> Iterator[Slices]:
    """Cut [B, H, N, L] into (batch, row) slices of at most `CHUNK_BYTES` of scores.

    A single row of all heads is the smallest block, whatever its size.
    """
    row_bytes = H * L * itemsize
    budget = CHUNK_BYTES if is_on_cpu else CHUNK_BYTES_OFF_CPU
    rows = max(1, budget // row_bytes)
    samples = max(1, min(B, rows // N))
    for b in range(0, B, samples):
        for n in range(0, N, rows):
            yield slice(b, b + samples), slice(n, min(n + rows, N))


def _part(x: Tensor | None, *index: slice) -> Tensor | None:
    return None if x is None else x[index]


def forward_chunked(
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    row_weight_BN: Tensor | None,
    key_bias_BL: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return output and mass; the extra memory is a few blocks of scores."""
    wide = accumulation_dtype(q_BHND.dtype)
    B, H, N, _ = q_BHND.shape
    L = k_BHLD.shape[2]
    bias, alive = _finite_bias(key_bias_BL, wide)
    o = output_like(q_BHND)
    mass = torch.zeros((B, H, L), dtype=wide, device=q_BHND.device)
    is_on_cpu = q_BHND.device.type == "cpu"
    for b, n in blocks(B, H, N, L, wide.itemsize, is_on_cpu=is_on_cpu):
        q, k = _flat(q_BHND[b, :, n], wide), _flat(k_BHLD[b], wide)
        p = _probabilities(q, k, _part(bias, b), _part(alive, b), scale)
        part = o[b, :, n]
        part.copy_(torch.bmm(p, _flat(v_BHLD[b], wide)).view(part.shape))
        share = mass[b]
        share += _mass(p, power, _part(row_weight_BN, b, n)).view(share.shape)
    return o, mass


def backward_chunked(
    grad_o_BHND: Tensor | None,
    grad_mass_BHL: Tensor | None,
    q_BHND: Tensor,
    k_BHLD: Tensor,
    v_BHLD: Tensor,
    row_weight_BN: Tensor | None,
    key_bias_BL: Tensor | None,
    power: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of q, k and v; that of v is None without `grad_o`."""
    wide = accumulation_dtype(q_BHND.dtype)
    B, H, N, D = q_BHND.shape
    L = k_BHLD.shape[2]
    bias, alive = _finite_bias(key_bias_BL, wide)
    dq = output_like(q_BHND)
    dk_BHLD = torch.zeros((B, H, L, D), dtype=wide, device=q_BHND.device)
    dv_BHLD = torch.zeros_like(dk_BHLD)
    zero = dk_BHLD.new_empty((1, 1, 1))
    is_on_cpu = q_BHND.device.type == "cpu"
    for b, n in blocks(B, H, N, L, wide.itemsize, is_on_cpu=is_on_cpu):
        q = _flat(q_BHND[b, :, n], wide)
        k, v = _flat(k_BHLD[b], wide), _flat(v_BHLD[b], wide)
        grad_o = None if grad_o_BHND is None else _flat(grad_o_BHND[b, :, n], wide)
        p = _probabilities(q, k, _part(bias, b), _part(alive, b), scale)
        r = _part(row_weight_BN, b, n)
        ds = _grad_scores(p, grad_o, _part(grad_mass_BHL, b), v, power, r)
        part = dq[b, :, n]
        part.copy_(torch.baddbmm(zero, ds, k, beta=0, alpha=scale).view(part.shape))
        dk_BHLD[b].flatten(0, 1).baddbmm_(ds.mT, q, alpha=scale)
        if grad_o is not None:
            dv_BHLD[b].flatten(0, 1).baddbmm_(p.mT, grad_o)
    dtype = q_BHND.dtype
    return dq, dk_BHLD.to(dtype), None if grad_o_BHND is None else dv_BHLD.to(dtype)
