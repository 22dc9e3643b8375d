"""Inputs and measures shared by the kernel tests."""

# Shape letters are upper case, as in the kernels.
# ruff: noqa: N803, PLR0913

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One problem: tensors of the operation and the gradients that flow back."""

    q: Tensor
    k: Tensor
    v: Tensor
    grad_o: Tensor
    grad_mass: Tensor
    row_weight: Tensor | None
    key_bias: Tensor | None

    def leaves(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Copies of q, k, v that keep their strides and want a gradient."""
        return [
            x.detach().to(dtype or x.dtype).requires_grad_()
            for x in (self.q, self.k, self.v)
        ]

    def settings(self) -> dict[str, Any]:
        return {"row_weight": self.row_weight, "key_bias": self.key_bias}

    def without(self, *names: str) -> "Case":
        return replace(self, **dict.fromkeys(names))


def a_case(
    B: int = 2,
    H: int = 2,
    N: int = 11,
    L: int = 7,
    D: int = 5,
    *,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    seed: int = 0,
) -> Case:
    """Draw a problem whose tensors are views into larger ones full of NaN.

    Image rows of all heads lie side by side, as the projections of a model leave them,
    with strides that no contiguous tensor and no two of them have; a read out of bounds
    meets a NaN.
    """
    g = torch.Generator().manual_seed(seed)

    def rows(count: int, spare: int) -> Tensor:
        values = torch.randn((B, count, H, D), generator=g, dtype=torch.float64)
        room = torch.full(
            (B, count + 3, H + spare, D + 8), torch.nan, dtype=dtype, device=device
        )
        view = room[:, 1 : count + 1, :H, :D]
        view.copy_(values)
        return view.transpose(1, 2)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    bias = torch.randn((B, L), generator=g, dtype=wide)
    bias[0, 0] = -torch.inf
    return Case(
        q=rows(N, 1),
        k=rows(L, 2),
        v=rows(L, 3),
        grad_o=rows(N, 4),
        grad_mass=torch.randn((B, H, L), generator=g, dtype=wide).to(device),
        row_weight=torch.rand((B, N), generator=g, dtype=wide).to(device),
        key_bias=bias.to(device),
    )


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Frobenius norm of the difference over that of the wanted; NaN stays NaN."""
    a, b = got.detach().double(), wanted.detach().double()
    return float((a - b).norm() / b.norm())
