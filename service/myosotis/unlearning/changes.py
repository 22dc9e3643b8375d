"""Changes to tensors: what an erasure gives, and what a patch carries.

A change is always relative to the pristine base. What it makes of a base tensor is the
same on every machine and thread count, bit for bit:

* ``Dense`` is a copy.
* ``LowRank`` adds the rank-1 terms one after the other, in float64, and rounds to
  float32 once. The product of two float32 numbers is exact in float64 (24 + 24 bits
  of 53), so a fused multiply-add cannot change it; each element is one fixed sequence
  of IEEE additions, so neither the order of a BLAS nor the number of threads counts.

Legend: O outputs, I inputs, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

# Elements worked on at a time: two float64 blocks stay in the cache, and PyTorch does
# not start threads for fewer.
_BLOCK_ELEMENTS = 32768


@dataclass(frozen=True, eq=False, slots=True)
class LowRank:
    """Adds ``up @ down``.

    Attributes:
        up: float32 [O, R].
        down: float32 [R, I]; changes may share one tensor, and then files store it
            once.
    """

    up: Tensor
    down: Tensor

    def __post_init__(self) -> None:
        for factor in (self.up, self.down):
            if factor.dtype != torch.float32 or factor.ndim != 2:  # noqa: PLR2004 - a matrix
                raise ValueError(f"no float32 matrix: {factor.dtype} {factor.shape}")
        if self.up.shape[1] != self.down.shape[0] or not self.up.shape[1]:
            raise ValueError(f"{self.up.shape} and {self.down.shape} have no rank")

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    def applied(self, base: Tensor) -> Tensor:
        """The changed tensor, float32 [O, I], from *base* [O, I] of any float type."""
        if base.shape != (self.up.shape[0], self.down.shape[1]):
            raise ValueError(f"{self.up.shape} @ {self.down.shape} on {base.shape}")
        return _add_products(base.to(torch.float64, copy=True), self.up, self.down)


@dataclass(frozen=True, eq=False, slots=True)
class Dense:
    """Replaces the tensor by *weight*, float32 of the same shape."""

    weight: Tensor

    def __post_init__(self) -> None:
        if self.weight.dtype != torch.float32:
            raise ValueError(f"not float32: {self.weight.dtype}")

    def applied(self, base: Tensor) -> Tensor:
        """The changed tensor, float32, in place of *base*."""
        if base.shape != self.weight.shape:
            raise ValueError(f"{self.weight.shape} in place of {base.shape}")
        return self.weight.clone()


Change: TypeAlias = LowRank | Dense


def changed_tensors(
    base: Mapping[str, Tensor], changes: Mapping[str, Change]
) -> dict[str, Tensor]:
    """The changed tensors alone, float32, sorted by name; *base* is only read."""
    return {name: changes[name].applied(base[name]) for name in sorted(changes)}


def _add_products(sum_OI: Tensor, up_OR: Tensor, down_RI: Tensor) -> Tensor:  # noqa: N803 - shape suffix
    """Add the products to *sum_OI*, float64, in the order of R; float32 of it."""
    up, down = up_OR.double(), down_RI.double()
    rows = max(1, _BLOCK_ELEMENTS // sum_OI.shape[1])
    for start in range(0, sum_OI.shape[0], rows):
        block = sum_OI[start : start + rows]
        columns = up[start : start + rows].T.contiguous().unsqueeze(-1)
        product = torch.empty_like(block)
        for column, row in zip(columns, down, strict=True):
            torch.mul(column, row, out=product)
            block.add_(product)
    return sum_OI.float()
