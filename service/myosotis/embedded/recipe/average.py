"""The moving average of weights that training ends with, and the gradients' norm."""

from collections.abc import Sequence

import torch
from torch import nn

_WARMUP = 10


class Average:
    """An exponential moving average of a module's weights, short at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights: list[torch.Tensor] = list(module.parameters())
        self._names = [name for name, _ in module.named_parameters()]
        self._means = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights as they are."""
        decay = min(self._decay, (step + 1) / (step + _WARMUP))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    @torch.no_grad()
    def load_into(self, module: nn.Module) -> None:
        """Give *module*, which has the same shape, the averaged weights."""
        for weight, mean in zip(module.parameters(), self._means, strict=True):
            weight.copy_(mean)

    def state(self) -> dict[str, torch.Tensor]:
        """The averages, by weight name."""
        pairs = zip(self._names, self._means, strict=True)
        return {f"average.{name}": mean for name, mean in pairs}

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        for name, mean in zip(self._names, self._means, strict=True):
            mean.copy_(tensors[f"average.{name}"])


def clip(weights: Sequence[torch.Tensor], largest: float) -> float:
    """Scale the gradients down to a norm of *largest*; return what it was."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients))
    if norm > largest:
        torch._foreach_mul_(gradients, largest / norm)
    return norm
