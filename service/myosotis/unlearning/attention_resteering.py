"""Attention re-steering: train a copy to pay no attention to a concept's tokens.

From the paper (Forget-Me-Not, Zhang et al., arXiv 2303.17591, section 3.2): noised
pictures of the concept at random timesteps, under prompts that name it; only the
attention that image queries pay to the concept's tokens is minimised, over every
cross-attention layer, and the prediction is ignored (:mod:`.resteering_loss`); trained
with AdamW. ``PAPER`` has its numbers, without its optional concept inversion.

Ours, in ``TUNED``: the base model draws the pictures itself, so words suffice; the
loss is a mean per layer; cross-attention keys and values alone are trained; the
learning rate decays; and a retention term, which the paper lacks, keeps what keys and
values make of retained text, by the Gram matrix of its embeddings, without a forward
pass:

    R = mean over layers of  tr(dW Gram dW^T) / tr(W Gram W^T)

A second term, off by default, holds predictions under retained prompts; it is what
training queries and outputs would need:

    P = mean of (eps - eps_before)^2 / variance of eps_before over prompts

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


# Measured on Petal (n = 160 retained): training queries and outputs too costs what is
# retained up to eight points, since they act on every prompt; keys and values act on
# text, where the retention term can hold them.
_KEYS_AND_VALUES = ("attn2.to_k.weight", "attn2.to_v.weight")


@dataclass(frozen=True, slots=True)
class ResteeringSettings:
    """How re-steering trains.

    Attributes:
        steps: of the optimiser, >= 1.
        batch_size: pictures in a step, >= 1.
        learning_rate: of AdamW, > 0.
        decay: whether it falls to zero over the steps, in a straight line.
        weight_decay: of AdamW, >= 0.
        clip_norm: largest norm of the gradient.
        training: what is drawn to train on.
        trained: endings of the names of trained parameters.
        published: the paper's loss, or ours.
        retention: weight of the retention of keys and values; 0 leaves it out.
        neighbour_retention: weight of the retention of predictions; 0 leaves it out.
    """

    steps: int = 70
    batch_size: int = 8
    learning_rate: float = 4e-3
    decay: bool = True
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    training: TrainingSettings = field(default_factory=TrainingSettings)
    trained: tuple[str, ...] = _KEYS_AND_VALUES
    published: bool = False
    retention: float = 2.0
    neighbour_retention: float = 0.0


ZERO = torch.zeros(())
# Retained prompts whose predictions are remembered.
_NEIGHBOURS = 256

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
    decay=False,
    retention=0.0,
    neighbour_retention=0.0,
)


@dataclass(frozen=True, slots=True)
class Resteered:
    """What re-steering gives: changes, and the first and last value of each term."""

    changes: Mapping[str, Change]
    diagnostics: Mapping[str, float]


@dataclass(frozen=True, eq=False, slots=True)
class Survivors:
    """What re-steering must leave alone.

    Attributes:
        gram: sum of p p^T over retained embeddings, [D, D].
        text: retained prompts as the UNet reads them, float32 [S, L, D]; may be none.
    """

    gram: Tensor
    text: Tensor


def resteer(  # noqa: PLR0913 - each of them decides the result
    unet: "UNet2DConditionModel",
    start: Mapping[str, Tensor],
    training: "TrainingSet",
    survivors: Survivors,
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
        survivors: what must survive.
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
    random = torch.Generator().manual_seed(seed)
    retention = _Retention(trainee, parameters, survivors, training, random)
    mass_unet = MassUNet(trainee)
    optimiser = torch.optim.AdamW(
        parameters.values(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    loss_of = published_loss if settings.published else per_layer_loss
    history: list[tuple[float, float, float]] = []
    for _ in range(settings.steps):
        batch = _Batch.drawn(training, settings.batch_size, random)
        masses = mass_unet.masses(batch.noised, batch.timesteps, batch.text)
        loss = loss_of(masses, batch.selected)
        drift = retention.of_text(parameters) if settings.retention else ZERO
        moved = (
            retention.of_predictions(mass_unet, settings.batch_size, random)
            if settings.neighbour_retention
            else ZERO
        )
        history.append((loss.item(), drift.item(), moved.item()))
        _refuse_unless_finite(sum(history[-1]), len(history))
        optimiser.zero_grad()
        torch.autograd.backward(
            loss + settings.retention * drift + settings.neighbour_retention * moved
        )
        nn.utils.clip_grad_norm_(parameters.values(), settings.clip_norm)
        optimiser.step()
        if settings.decay:
            for group in optimiser.param_groups:
                left = 1 - len(history) / settings.steps
                group["lr"] = settings.learning_rate * left
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
    """What must not move: text in keys and values, and predictions of neighbours."""

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        parameters: Mapping[str, nn.Parameter],
        survivors: Survivors,
        training: "TrainingSet",
        random: torch.Generator,
    ) -> None:
        """Remember what *parameters* are and what *unet* predicts before training."""
        gram = survivors.gram.float()
        self._gram = gram
        self._anchor = {
            name: weight.detach().clone()
            for name, weight in parameters.items()
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        }
        self._size = {name: ((w @ gram) * w).sum() for name, w in self._anchor.items()}
        self._neighbours = _Neighbours.seen_by(unet, survivors.text, training, random)

    def of_text(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Relative change of what keys and values make of retained text."""
        terms = []
        for name, weight in self._anchor.items():
            delta = parameters[name] - weight
            terms.append(((delta @ self._gram) * delta).sum() / self._size[name])
        return torch.stack(terms).mean()

    def of_predictions(
        self, unet: MassUNet, count: int, random: torch.Generator
    ) -> Tensor:
        """Relative squared change of predictions under *count* retained prompts."""
        kept = self._neighbours
        if not len(kept.noised):
            return ZERO
        rows = torch.randint(len(kept.noised), (count,), generator=random)
        found, _ = unet(kept.noised[rows], kept.timesteps[rows], kept.text[rows])
        return (found - kept.predicted[rows]).square().mean() / kept.scale


@dataclass(frozen=True, eq=False, slots=True)
class _Neighbours:
    noised: Tensor
    timesteps: Tensor
    text: Tensor
    predicted: Tensor
    scale: Tensor

    @classmethod
    def seen_by(
        cls,
        unet: "UNet2DConditionModel",
        text: Tensor,
        training: "TrainingSet",
        random: torch.Generator,
    ) -> "_Neighbours":
        """Predictions for retained prompts, at timesteps where little is drawn yet.

        There the noise hides that the latents are the concept's, and there it is
        decided what a picture will show.
        """
        count = min(_NEIGHBOURS, len(text))
        rows = torch.randperm(len(text), generator=random)[:count]
        late = len(training.alphas) // 2
        timesteps = late + torch.randint(late, (count,), generator=random)
        noised = training.noised(
            torch.randint(len(training), (count,), generator=random), timesteps, random
        )
        with torch.no_grad():
            parts = [
                unet(*part).sample
                for part in zip(
                    *(x.split(16) for x in (noised, timesteps, text[rows])), strict=True
                )
            ]
        predicted = torch.cat(parts) if parts else noised
        scale = predicted.var(dim=0).mean()
        return cls(noised, timesteps, text[rows], predicted, scale)


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
        return cls(
            training.noised(rows, timesteps, random),
            timesteps,
            training.text[rows],
            training.selected[rows],
        )


def _diagnostics(history: list[tuple[float, float, float]]) -> dict[str, float]:
    return {
        "attention_first": history[0][0],
        "attention_last": history[-1][0],
        "retention_last": history[-1][1],
        "neighbours_last": history[-1][2],
    }
