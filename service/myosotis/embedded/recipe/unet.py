"""Training of the denoiser: two processes of one thread, level rate, then decay.

The level phase has no end of its own: it can go on from its checkpoint at any time.
A decay branches off it and gives the weights that are packaged.
"""

import datetime as dt
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import UNet2DConditionModel
from torch.nn import functional as F  # noqa: N812

from myosotis.embedded.recipe import diffusion
from myosotis.embedded.recipe.average import Average, clip
from myosotis.embedded.recipe.checkpoints import Checkpoint
from myosotis.embedded.recipe.latents import Cache
from myosotis.embedded.recipe.optimiser import (
    Crew,
    MuonAdamW,
    Rates,
    warmup_stable_decay,
)
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.settings import Settings
from myosotis.embedded.recipe.text_tower import WIDTH

BATCH = 32
"""Latents a process and step."""
_RATE = 1e-3
_MATRIX_RATE = 2e-3
_UNTOLD = 0.1
_SAVE_EVERY = 100
_HIGH_NOISE = 700


@dataclass(frozen=True, slots=True)
class Plan:
    """One phase of training, in steps."""

    steps: int
    """Train until this step."""
    decay: int = 0
    """How many of the last steps bring the learning rate down; 0 is the level phase."""

    @property
    def folder(self) -> str:
        """The name of the phase's checkpoint."""
        return "unet-decayed" if self.decay else "unet"


def launch(settings: Settings, plan: Plan, world: int, rank: int) -> None:
    """Train as process *rank* of *world*; process 0 starts the others."""
    torch.set_num_threads(1)
    store = settings.cache / "rendezvous"
    others = []
    if rank == 0:
        store.unlink(missing_ok=True)
        others = [
            subprocess.Popen([sys.executable, *_arguments(settings, plan, world, peer)])  # noqa: S603
            for peer in range(1, world)
        ]
    if world > 1:
        # Training may be stopped by a signal for long, so nothing times out.
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=dt.timedelta(days=7),
        )
    train(settings, plan, rank, world)
    for other in others:
        other.wait()


def _arguments(settings: Settings, plan: Plan, world: int, rank: int) -> list[str]:
    return [
        "-m", "myosotis.embedded.recipe", "unet",
        "--cache", str(settings.cache),
        "--steps", str(plan.steps),
        "--decay", str(plan.decay),
        "--world", str(world),
        "--rank", str(rank),
    ]  # fmt: skip


def train(settings: Settings, plan: Plan, rank: int, world: int) -> None:
    """Train until the plan's last step, going on from the last checkpoint."""
    torch.manual_seed(settings.seed)
    network = diffusion.build(WIDTH)
    weights = list(network.parameters())
    average = Average(network, decay=0.9985 if not plan.decay else 0.995)
    optimiser = MuonAdamW.of(
        network,
        Rates(_MATRIX_RATE, _RATE, decay=0.02, iterations=3),
        Crew(rank, world, dist.all_reduce if world > 1 else None),
    )
    place = settings.checkpoints / plan.folder
    saved = Checkpoint.load(place)
    if saved is None and plan.decay:
        saved = Checkpoint.load(settings.checkpoints / "unet")
    start = saved.restore(network, average, optimiser) if saved else 0
    draws = Draws(settings, seed=(settings.seed, start, rank))
    progress = Progress("unet", every=25, silent=rank > 0)
    kept = diffusion.scheduler().alphas_cumprod
    for step in range(start, plan.steps):
        latents, texts, timesteps, noise = draws.batch(BATCH)
        noisy, velocity = diffusion.noised(latents, noise, kept[timesteps])
        told = network(noisy, timesteps, texts, return_dict=False)[0]
        errors = F.mse_loss(told, velocity, reduction="none").mean((1, 2, 3))
        network.zero_grad()
        errors.mean().backward()
        if world > 1:
            _average_gradients(weights, world)
        norm = clip(weights, 1.0)
        optimiser.step(
            warmup_stable_decay(
                step,
                warmup=100,
                stable=plan.steps - plan.decay,
                decay=plan.decay,
            )
        )
        average.update(step)
        high = timesteps > _HIGH_NOISE
        progress.note(
            step + 1,
            plan.steps,
            loss=errors.mean().item(),
            high=errors[high].mean().item(),
            low=errors[~high].mean().item(),
            norm=norm,
        )
        if rank == 0 and ((step + 1) % _SAVE_EVERY == 0 or step + 1 == plan.steps):
            Checkpoint.of(step + 1, network, average, optimiser).save(place)


def averaged(folder: Path) -> UNet2DConditionModel:
    """The averaged denoiser of a checkpoint."""
    saved = Checkpoint.load(folder)
    if saved is None:
        raise FileNotFoundError(folder)
    network = diffusion.build(WIDTH)
    average = Average(network, decay=1.0)
    average.restore(dict(saved.tensors))
    average.load_into(network)
    return network.eval()


class Draws:
    """An endless stream of training examples, the same for the same seed."""

    def __init__(self, settings: Settings, seed: tuple[int, int, int]) -> None:
        self._cache = Cache.load(settings.cache / "latents.safetensors")
        self._generator = torch.Generator().manual_seed(hash(seed) % 2**63)
        self._weights = self._row_weights(settings.cache / "emphasis.json")

    def _row_weights(self, path: Path) -> torch.Tensor:
        """How often each latent is drawn: pairs that the detector finds weak, more."""
        rows = torch.ones(len(self._cache.pairs))
        if path.exists():
            emphasis = torch.tensor(json.loads(path.read_text()))
            rows = emphasis[self._cache.pairs.long()]
        return rows

    def batch(self, count: int) -> tuple[torch.Tensor, ...]:
        """Latents, text states, timesteps and noise."""
        cache, generator = self._cache, self._generator
        rows = torch.multinomial(
            self._weights, count, replacement=True, generator=generator
        )
        latents = cache.latents[rows].float()
        which = torch.randint(cache.captions.size(1), (count,), generator=generator)
        captions = cache.captions[rows, which].long()
        untold = torch.rand(count, generator=generator) < _UNTOLD
        texts = cache.texts[captions.masked_fill(untold, 0)].float()
        timesteps = diffusion.draw_timesteps(count, generator)
        noise = torch.randn(latents.shape, generator=generator)
        return latents, texts, timesteps, noise


def _average_gradients(weights: list[torch.nn.Parameter], world: int) -> None:
    gradients = [w.grad for w in weights if w.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
