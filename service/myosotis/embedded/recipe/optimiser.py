"""AdamW for vectors and embeddings, Muon for the matrices inside."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_SMALLEST_MATRIX = 12


def orthogonalised(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    """The nearest orthogonal matrix, roughly, by Newton-Schulz iterations."""
    a, b, c = _COEFFICIENTS
    x = matrix
    tall = x.size(0) > x.size(1)
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: torch.Tensor = x.mT if tall else x
    return nearest


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates at their full height, and the decay of the matrices."""

    matrices: float
    others: float
    decay: float
    iterations: int = 5
    """Of Newton-Schulz. Three leave small directions small, and cost less."""


@dataclass(frozen=True, slots=True)
class Crew:
    """This process among those that train together.

    *add_up* turns the flat vector of Muon's updates, of which each process filled in
    only its part, into the sum over all processes, in place.
    """

    rank: int = 0
    world: int = 1
    add_up: Callable[[torch.Tensor], None] | None = None


class MuonAdamW:
    """Steps float32 weights: matrices by Muon, the rest by AdamW.

    Muon's update is scaled to the size that Adam's would have, so that one learning
    rate serves both.
    """

    def __init__(
        self,
        matrices: Sequence[torch.Tensor],
        others: Sequence[torch.Tensor],
        rates: Rates,
        crew: Crew,
    ) -> None:
        self._matrices = list(matrices)
        self._rates, self._crew = rates, crew
        self._momenta = [torch.zeros_like(m) for m in matrices]
        self._mine = _deal(self._matrices, crew)
        self.adam = torch.optim.AdamW(
            list(others), rates.others, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )

    @classmethod
    def of(cls, module: nn.Module, rates: Rates, crew: Crew = Crew()) -> Self:
        """Muon for the matrices of a network's inside, AdamW for what is at its rim."""
        inside: list[torch.Tensor] = []
        rim: list[torch.Tensor] = []
        for name, weight in module.named_parameters():
            flat = weight.flatten(1) if weight.ndim > 1 else weight[None]
            narrow = min(flat.shape) < _SMALLEST_MATRIX
            inner = not narrow and "embedding" not in name
            (inside if inner else rim).append(weight)
        return cls(inside, rim, rates, crew)

    @torch.no_grad()
    def step(self, factor: float, momentum: float = 0.95) -> None:
        """One update at *factor* times the full learning rate."""
        for group in self.adam.param_groups:
            group["lr"] = self._rates.others * factor
        self.adam.step()
        updates = []
        for index, (matrix, buffer) in enumerate(
            zip(self._matrices, self._momenta, strict=True)
        ):
            gradient = matrix.grad
            if gradient is None:
                raise ValueError("a matrix has no gradient")
            buffer.lerp_(gradient, 1 - momentum)
            if index in self._mine:
                ahead = gradient.lerp(buffer, momentum).flatten(1)
                update = orthogonalised(ahead, self._rates.iterations)
                updates.append(update.reshape(-1))
            else:
                updates.append(torch.zeros(matrix.numel()))
        flat = torch.cat(updates)
        if self._crew.add_up is not None:
            self._crew.add_up(flat)
        rate, start = self._rates.matrices * factor, 0
        for matrix in self._matrices:
            update = flat[start : start + matrix.numel()].view_as(matrix)
            start += matrix.numel()
            rows, columns = matrix.flatten(1).shape
            matrix.mul_(1 - rate * self._rates.decay)
            matrix.sub_(update, alpha=rate * 0.2 * math.sqrt(max(rows, columns)))

    def state(self) -> dict[str, torch.Tensor]:
        """Momenta and moments, by position."""
        tensors = {f"muon.{i}": m for i, m in enumerate(self._momenta)}
        for index, moments in self.adam.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"adam.{index}.{name}"] = value
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        for index, momentum in enumerate(self._momenta):
            momentum.copy_(tensors[f"muon.{index}"])
        wanted = self.adam.state_dict()
        wanted["state"] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index_text, name = key.split(".")
                wanted["state"].setdefault(int(index_text), {})[name] = value
        self.adam.load_state_dict(wanted)


def warmup_stable_decay(step: int, *, warmup: int, stable: int, decay: int) -> float:
    """The share of the learning rate: up, level, and down by 1 - sqrt."""
    if step < warmup:
        return (step + 1) / warmup
    if step < stable:
        return 1.0
    done = min((step - stable) / max(decay, 1), 1.0)
    return max(1 - math.sqrt(done), 0.01)


def _deal(matrices: Sequence[torch.Tensor], crew: Crew) -> frozenset[int]:
    """Which matrices this process orthogonalises: about equal work for each."""

    def work(index: int) -> int:
        rows, columns = matrices[index].flatten(1).shape
        return min(rows, columns) ** 2 * max(rows, columns)

    loads = [0] * crew.world
    mine = set()
    for index in sorted(range(len(matrices)), key=work, reverse=True):
        lightest = loads.index(min(loads))
        loads[lightest] += work(index)
        if lightest == crew.rank:
            mine.add(index)
    return frozenset(mine)
