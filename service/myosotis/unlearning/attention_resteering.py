"""Attention re-steering: train a copy to pay no attention to a concept's tokens.

From the paper (Forget-Me-Not, Zhang et al., arXiv 2303.17591, section 3.2): noised
pictures of the concept at random timesteps, under prompts that name it; only the
attention that image queries pay to the concept's tokens is minimised, over every
cross-attention layer, and the prediction is ignored (:mod:`.resteering_loss`); trained
with AdamW. ``PAPER`` has its numbers, without its optional concept inversion.

Ours, in ``TUNED``: the base model draws the pictures itself, so words suffice; the loss
is a mean per layer; cross-attention alone is trained; and a retention term, which the
paper lacks, keeps what its keys and values make of retained text:

    R = mean over layers of  tr(dW Gram dW^T) / tr(W Gram W^T)

with the weighted Gram matrix of retained embeddings that the closed form uses. It needs
no picture and no forward pass.

The result replaces tensors: a trained difference has full rank, and cutting it off
would not be exact.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from myosotis.errors import InvalidArgumentError, PreconditionError
from myosotis.unlearning.attention_masses import MassUNet
from myosotis.unlearning.changes import Change, Dense
from myosotis.unlearning.concept_tokens import TokenScope
from myosotis.unlearning.resteering_loss import per_layer_loss, published_loss
from myosotis.unlearning.training_pictures import TrainingSettings

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from myosotis.unlearning.training_pictures import TrainingSet


_CROSS_ATTENTION = tuple(
    f"attn2.{part}"
    for part in (
        "to_q.weight",
        "to_k.weight",
        "to_v.weight",
        "to_out.0.weight",
        "to_out.0.bias",
    )
)


@dataclass(frozen=True, slots=True)
class ResteeringSettings:
    """How re-steering trains.

    Attributes:
        steps: of the optimiser, >= 1.
        batch_size: pictures in a step, >= 1.
        learning_rate: of AdamW, constant, > 0.
        weight_decay: of AdamW, >= 0.
        clip_norm: largest norm of the gradient.
        training: what is drawn to train on.
        trained: endings of the names of trained parameters.
        published: the paper's loss, or ours.
        retention: weight of the retention term; 0 leaves it out.
    """

    steps: int = 60
    batch_size: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    training: TrainingSettings = field(default_factory=TrainingSettings)
    trained: tuple[str, ...] = _CROSS_ATTENTION
    published: bool = False
    retention: float = 0.3


TUNED = ResteeringSettings()
PAPER = ResteeringSettings(
    steps=35,
    batch_size=1,
    learning_rate=2e-6,
    weight_decay=0.01,
    training=TrainingSettings(
        pictures=10, step_share=1.0, scope=TokenScope.CONCEPT_AND_END
    ),
    trained=("",),
    published=True,
    retention=0.0,
)


@dataclass(frozen=True, slots=True)
class Resteered:
    """What re-steering gives: changes, and the first and last value of each term."""

    changes: Mapping[str, Change]
    diagnostics: Mapping[str, float]


def resteer(  # noqa: PLR0913 - each of them decides the result
    unet: "UNet2DConditionModel",
    start: Mapping[str, Tensor],
    training: "TrainingSet",
    retained: Tensor,
    *,
    settings: ResteeringSettings,
    seed: int,
    on_step: Callable[[], None],
) -> Resteered:
    """Train a copy of *unet*; *unet* itself is only read.

    Args:
        unet: with its base weights.
        start: tensors, by name, from which the copy starts instead of the base's.
        training: pictures of the concepts.
        retained: weighted Gram matrix of what must survive, [D, D].
        settings: how.
        seed: of batches, timesteps and noise.
        on_step: called after each step. What it raises ends the training.

    Raises:
        InvalidArgumentError: the loss is not finite.
    """
    trainee = copy.deepcopy(unet)
    trainee.load_state_dict({**trainee.state_dict(), **start})
    trainee.eval()
    parameters = _trained(trainee, settings)
    keep = _Retention(parameters, retained.float()) if settings.retention else None
    mass_unet = MassUNet(trainee)
    optimiser = torch.optim.AdamW(
        parameters.values(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    loss_of = published_loss if settings.published else per_layer_loss
    random = torch.Generator().manual_seed(seed)
    history: list[tuple[float, float]] = []
    for _ in range(settings.steps):
        batch = _Batch.drawn(training, settings.batch_size, random)
        masses = mass_unet.masses(batch.noised, batch.timesteps, batch.text)
        loss = loss_of(masses, batch.selected)
        drift = keep(parameters) if keep else torch.zeros(())
        history.append((loss.item(), drift.item()))
        _refuse_unless_finite(sum(history[-1]), len(history))
        optimiser.zero_grad()
        torch.autograd.backward(loss + settings.retention * drift)
        nn.utils.clip_grad_norm_(parameters.values(), settings.clip_norm)
        optimiser.step()
        on_step()
    return Resteered(_changes(parameters), _diagnostics(history))


def _refuse_unless_finite(value: float, step: int) -> None:
    if not math.isfinite(value):
        raise InvalidArgumentError(
            "concepts", f"re-steering diverged: step {step} computes {value}"
        )


def _changes(parameters: Mapping[str, nn.Parameter]) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for name, parameter in parameters.items():
        weight = parameter.detach().float().clone()
        if not bool(weight.isfinite().all()):
            raise InvalidArgumentError("concepts", f"re-steering diverged in {name}")
        changes[name] = Dense(weight)
    return changes


def _trained(
    unet: "UNet2DConditionModel", settings: ResteeringSettings
) -> dict[str, nn.Parameter]:
    found = {}
    for name, parameter in unet.named_parameters():
        chosen = name.endswith(settings.trained)
        parameter.requires_grad_(chosen)
        if chosen:
            found[name] = parameter
    if not found:
        raise PreconditionError(f"no parameter ends in {settings.trained}")
    return found


class _Retention:
    """Relative change of what the trained layers make of retained text."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], gram: Tensor) -> None:
        self._gram = gram
        self._anchor = {
            name: weight.detach().clone()
            for name, weight in parameters.items()
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        }
        if not self._anchor:
            raise PreconditionError("a retention term needs keys or values to train")
        self._size = {name: ((w @ gram) * w).sum() for name, w in self._anchor.items()}

    def __call__(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        terms = []
        for name, weight in self._anchor.items():
            delta = parameters[name] - weight
            terms.append(((delta @ self._gram) * delta).sum() / self._size[name])
        return torch.stack(terms).mean()


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    noised: Tensor
    timesteps: Tensor
    text: Tensor
    selected: Tensor

    @classmethod
    def drawn(
        cls, training: "TrainingSet", size: int, random: torch.Generator
    ) -> "_Batch":
        """*size* pictures with repetition, each with its own timestep and noise."""
        rows = torch.randint(len(training), (size,), generator=random)
        timesteps = torch.randint(len(training.alphas), (size,), generator=random)
        latents = training.latents[rows]
        noise = torch.randn(latents.shape, generator=random)
        alpha = training.alphas[timesteps].view(-1, 1, 1, 1)
        return cls(
            alpha.sqrt() * latents + (1 - alpha).sqrt() * noise,
            timesteps,
            training.text[rows],
            training.selected[rows],
        )


def _diagnostics(history: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "attention_first": history[0][0],
        "attention_last": history[-1][0],
        "retention_last": history[-1][1],
    }
