"""The operation: checks, choice of implementation, registration with PyTorch.

Legend: B batch, H heads, N image rows, L text keys, D head width.
"""

# The arguments are those of the registered operator, whose schema is positional.
# ruff: noqa: PLR0917

import functools
import importlib.util
import math
import warnings
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from myosotis_kernels.cross_attention import reference
from myosotis_kernels.cross_attention.tiles import unsupported

Implementation: TypeAlias = Literal["auto", "triton", "reference", "interpreter"]

# Up to this size the CPU keeps the probabilities from forward to backward, which is
# faster; above it they are recomputed in blocks and memory stays bounded. One sample of
# 1024 rows, 8 heads and 77 keys fits, one of 4096 rows does not.
KEEP_BYTES = 8 * 1024 * 1024

# The second and third dimension of a launch grid are 16 bits wide.
_MAX_GROUPS = 65_535
_MAX_OFFSET = 2**31 - 1

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
    _check(q, k, v, row_weight, key_bias, power, scale, implementation)
    where = _choose(q, k, v, implementation)
    factor = q.shape[-1] ** -0.5 if scale is None else float(scale)
    o, mass, _ = _forward(q, k, v, row_weight, key_bias, power, factor, where)
    return o, mass


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why the kernels would not compute these inputs, or None if they would.

    Args:
        q: Queries, [B, H, N, D].
        k: Keys, [B, H, L, D].
        v: Values, [B, H, L, D].
    """
    return _device_reason(q.device.type, q.device.index) or _shape_reason(q, k, v)


def _shape_reason(q: Tensor, k: Tensor, v: Tensor) -> str | None:
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
def _device_reason(device_type: str, index: int | None) -> str | None:
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


def _choose(q: Tensor, k: Tensor, v: Tensor, implementation: Implementation) -> str:
    if implementation in {"triton", "interpreter"}:
        # The device is asked at launch: a plan on fake tensors needs none.
        reason = _shape_reason(q, k, v)
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


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row_weight: Tensor | None,
    key_bias: Tensor | None,
    power: int,
    scale: float | None,
    implementation: str,
) -> None:
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


def _launcher(where: str, device: torch.device) -> Any:  # noqa: ANN401
    """Import the launches, having made sure that they can run."""
    if where == _TRITON:
        reason = _device_reason(device.type, device.index)
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
