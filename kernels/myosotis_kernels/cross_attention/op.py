"""The operation: checks, choice of implementation, registration with PyTorch.

Legend: B batch, H heads, N image rows, L text keys, D head width.
"""

# The arguments are those of the registered operator, whose schema is positional.
# ruff: noqa: PLR0917

import warnings
from typing import Any

import torch
from torch import Tensor

from myosotis_kernels.cross_attention import reference
from myosotis_kernels.cross_attention.arguments import (
    Implementation,
    check,
    device_reason,
    shape_reason,
    why_not,
)

# Up to this size the CPU keeps the probabilities from forward to backward, which is
# faster; above it they are recomputed in blocks and memory stays bounded. One sample of
# 1024 rows, 8 heads and 77 keys fits, one of 4096 rows does not.
KEEP_BYTES = 8 * 1024 * 1024

# Where the work happens, and so what is kept for the backward pass:
# the probabilities (CPU), nothing (any device), the log-sum-exp of each row (Triton).
_KEPT, _CHUNKED, _TRITON, _INTERPRETER = "kept", "chunked", "triton", "interpreter"


class FastPathWarning(UserWarning):
    """A CUDA input is computed without the kernels; the message gives the reason."""


def attention_with_mass(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    power: int = 2,
    row_weight: Tensor | None = None,
    key_bias: Tensor | None = None,
    scale: float | None = None,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Cross-attention, and how much attention each key receives.

    With p = softmax(scale * q k^T + key_bias) over the keys, return

        O[b, h, i] = sum_l p[b, h, i, l] v[b, h, l]
        A[b, h, l] = sum_i row_weight[b, i] * p[b, h, i, l] ** power

    Probabilities are never stored by the kernels. Both results are differentiable,
    once, in q, k and v; either gradient may be absent. Results are deterministic: the
    same input gives the same bits on one device. A sample whose keys are all masked
    has zero probabilities.

    The loss of attention re-steering (Zhang et al., "Forget-Me-Not", 2023,
    arXiv 2303.17591) is `(A * concept_mask).sum().sqrt()` with `power=2`. The
    recomputing backward follows Dao et al., "FlashAttention", 2022, arXiv 2205.14135,
    with the term of A added; the README beside this module derives it.

    Args:
        q: Queries, [B, H, N, D]; N >= 1.
        k: Keys, [B, H, L, D]; L >= 1.
        v: Values, [B, H, L, D]. All three share device and dtype, one of fp16, bf16,
            fp32, fp64, and may have any strides; the kernels need a contiguous last
            dimension.
        power: 1 or 2, the exponent of the probability in the mass.
        row_weight: Weight of each image row, [B, N], any finite value; None is 1.
            No gradient.
        key_bias: Added to the scores, [B, L]: finite, or -inf to mask a key. No
            gradient.
        scale: Factor of the scores, finite; None is D ** -0.5.
        implementation: "auto" takes the kernels where `why_not` has no objection.
            "triton" demands them, "reference" avoids them, "interpreter" runs them in
            Triton's interpreter (for tests: it takes milliseconds per program).

    Returns:
        O, [B, H, N, D] in the dtype of q, laid out so that
        `O.transpose(1, 2).reshape(B, N, H * D)` copies nothing; and A, [B, H, L] in
        fp32 (fp64 for fp64 inputs), dimensionless, between 0 and sum(|row_weight|).

    Raises:
        TypeError: The dtypes differ or are not floating.
        ValueError: A shape, a device or a parameter is out of range, a tensor without
            a gradient asks for one, or "triton" was demanded and `why_not` objects.
        RuntimeError: The demanded implementation cannot run on this machine.

    Warns:
        FastPathWarning: "auto" computes a CUDA input without the kernels.
    """
    check(q, k, v, row_weight, key_bias, power, scale, implementation)
    where = _choose(q, k, v, implementation)
    factor = q.shape[-1] ** -0.5 if scale is None else float(scale)
    o, mass, _ = _forward(q, k, v, row_weight, key_bias, power, factor, where)
    return o, mass


def _choose(q: Tensor, k: Tensor, v: Tensor, implementation: Implementation) -> str:
    if implementation in {"triton", "interpreter"}:
        # The device is asked at launch: a plan on fake tensors needs none.
        reason = shape_reason(q, k, v)
        if reason is not None:
            raise ValueError(reason)
        return _TRITON if implementation == "triton" else _INTERPRETER
    if implementation == "auto":
        reason = why_not(q, k, v)
        if reason is None:
            return _TRITON
        if q.device.type == "cuda":
            warnings.warn(reason, FastPathWarning, stacklevel=3)
    B, H, N, _ = q.shape
    itemsize = reference.accumulation_dtype(q.dtype).itemsize
    is_small = B * H * N * k.shape[2] * itemsize <= KEEP_BYTES
    return _KEPT if q.device.type == "cpu" and is_small else _CHUNKED


def _launcher(where: str, device: torch.device) -> Any:  # noqa: ANN401
    """Import the launches, having made sure that they can run."""
    if where == _TRITON:
        reason = device_reason(device.type, device.index)
        if reason is not None:
            raise RuntimeError(reason)
    from myosotis_kernels.cross_attention import launch  # noqa: PLC0415

    if (where == _INTERPRETER) is not launch.is_interpreted():
        raise RuntimeError(
            'the interpreter serves implementation="interpreter" and nothing else, '
            "in a process started with TRITON_INTERPRET=1"
        )
    return launch


@torch.library.custom_op("myosotis_kernels::attention_with_mass", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row_weight: Tensor | None,
    key_bias: Tensor | None,
    power: int,
    scale: float,
    where: str,
) -> tuple[Tensor, Tensor, Tensor]:
    given = (q, k, v, row_weight, key_bias, power, scale)
    if where == _KEPT:
        return reference.forward_kept(*given)
    if where == _CHUNKED:
        o, mass = reference.forward_chunked(*given)
        return o, mass, mass.new_empty(0)
    o, mass, lse = _launcher(where, q.device).forward(*given)
    return o, mass, lse


@_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,  # noqa: ARG001
    row_weight: Tensor | None,  # noqa: ARG001
    key_bias: Tensor | None,  # noqa: ARG001
    power: int,  # noqa: ARG001
    scale: float,  # noqa: ARG001
    where: str,
) -> tuple[Tensor, Tensor, Tensor]:
    B, H, N, _ = q.shape
    L = k.shape[2]
    mass = q.new_empty((B, H, L), dtype=reference.accumulation_dtype(q.dtype))
    kept: tuple[int, ...] = (B, H, N)
    if where == _KEPT:
        kept = (B, H, N, L)
    elif where == _CHUNKED:
        kept = (0,)
    return reference.output_like(q), mass, mass.new_empty(kept)


@torch.library.custom_op(
    "myosotis_kernels::attention_with_mass_backward", mutates_args=()
)
def _backward(
    grad_o: Tensor | None,
    grad_mass: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: Tensor,
    row_weight: Tensor | None,
    key_bias: Tensor | None,
    power: int,
    scale: float,
    where: str,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = (grad_o, grad_mass)
    if where == _KEPT:
        dq, dk, dv = reference.backward_kept(
            *grads, q, k, v, kept, row_weight, power, scale
        )
    elif where == _CHUNKED:
        dq, dk, dv = reference.backward_chunked(
            *grads, q, k, v, row_weight, key_bias, power, scale
        )
    else:
        dq, dk, dv = _launcher(where, q.device).backward(
            *grads, q, k, v, kept, row_weight, key_bias, power, scale
        )
    # An operator cannot return None: no gradient of v is an empty tensor here.
    return dq, dk, q.new_empty(0) if dv is None else dv


@_backward.register_fake
def _(
    grad_o: Tensor | None,
    grad_mass: Tensor | None,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: Tensor,  # noqa: ARG001
    row_weight: Tensor | None,  # noqa: ARG001
    key_bias: Tensor | None,  # noqa: ARG001
    power: int,  # noqa: ARG001
    scale: float,  # noqa: ARG001
    where: str,
) -> tuple[Tensor, Tensor, Tensor]:
    like = reference.output_like if where == _KEPT else _contiguous_like
    dv = q.new_empty(0) if grad_o is None else like(v)
    return reference.output_like(q), like(k), dv


def _contiguous_like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(
    ctx: Any,  # noqa: ANN401
    inputs: tuple[Any, ...],
    output: tuple[Tensor, Tensor, Tensor],
) -> None:
    q, k, v, row_weight, key_bias, power, scale, where = inputs
    # An unused output then arrives as None, which selects a smaller kernel.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, output[2], row_weight, key_bias)
    ctx.settings = (power, scale, where)


def _grads(
    ctx: Any,  # noqa: ANN401
    grad_o: Tensor | None,
    grad_mass: Tensor | None,
    _grad_kept: Tensor | None,
) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 5
    if grad_o is None and grad_mass is None:
        return (None, None, None, *nothing)
    dq, dk, dv = _backward(grad_o, grad_mass, *ctx.saved_tensors, *ctx.settings)
    # Without a gradient of the output the values take no part in the loss.
    return (dq, dk, None if grad_o is None else dv, *nothing)


_forward.register_autograd(_grads, setup_context=_setup_context)
