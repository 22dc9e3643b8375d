"""The autoencoder: 64 x 64 pictures to 16 x 16 latents and back.

Shapes: B batch, C channels, H height, W width.
"""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F  # noqa: N812  (the usual name)

from myosotis.embedded.recipe.average import Average, clip
from myosotis.embedded.recipe.checkpoints import Checkpoint
from myosotis.embedded.recipe.concepts import COLORS, CONCEPTS, STYLES
from myosotis.embedded.recipe.optimiser import MuonAdamW, Rates, warmup_stable_decay
from myosotis.embedded.recipe.pictures import (
    WHITE,
    Picture,
    Placement,
    compose,
    side_by_side,
)
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.rasters import Raster, Rasters
from myosotis.embedded.recipe.settings import Settings

CROP = 32
CROP_STEPS, WHOLE_STEPS = 2000, 600
_KL_WEIGHT = 3e-4
_RATE = 2e-3


def build() -> AutoencoderKL:
    """The network, untrained."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def to_tensor(pictures: list[Picture]) -> torch.Tensor:
    """Pictures as a batch in [-1, 1]."""
    pixels = torch.from_numpy(np.stack(pictures))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


class Pictures:
    """An endless stream of icons for the autoencoder, Petal's own ones more often."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        own = {concept.icon for concept in CONCEPTS}
        self._icons: list[Raster] = []
        self._weights: list[float] = []
        for style in STYLES:
            rasters = Rasters(settings.rasters, style)
            for name in rasters.names:
                self._icons.append(rasters[name])
                self._weights.append(6.0 if name in own else 1.0)

    def batch(self, count: int, *, crops: bool) -> torch.Tensor:
        """*count* pictures, or two crops of each of *count* pictures."""
        pictures = []
        for icon in self._rng.choices(self._icons, self._weights, k=count):
            picture = self._picture(icon)
            if not crops:
                pictures.append(picture)
                continue
            for _ in range(2):
                top, left = (self._rng.randrange(0, CROP + 1, 2) for _ in range(2))
                pictures.append(picture[top : top + CROP, left : left + CROP])
        return to_tensor(pictures).contiguous(memory_format=torch.channels_last)

    def _picture(self, icon: Raster) -> Picture:
        rng = self._rng
        choice = rng.random()
        background: tuple[int, int, int] = WHITE
        if choice > 0.85:  # noqa: PLR2004
            background = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        elif choice > 0.65:  # noqa: PLR2004
            background = rng.choice(list(COLORS.values()))
        if rng.random() < 0.05:  # noqa: PLR2004
            return side_by_side(icon, rng.choice(self._icons), background)
        return compose(icon, Placement.draw(rng, 0.78, 0.97, mirrored=0.3), background)


def loss_of(
    shown: torch.Tensor, wanted: torch.Tensor, kl: torch.Tensor
) -> torch.Tensor:
    """Absolute error of pixels, of edges and of the coarse picture, and the KL."""
    coarse = F.l1_loss(F.avg_pool2d(shown, 2), F.avg_pool2d(wanted, 2))
    edges = sum(
        (F.l1_loss(shown.diff(dim=axis), wanted.diff(dim=axis)) for axis in (-1, -2)),
        start=torch.zeros(()),
    )
    return F.l1_loss(shown, wanted) + edges / 2 + coarse / 2 + _KL_WEIGHT * kl


def train(settings: Settings, progress: Progress) -> Path:
    """Train it, whiten its latents, write it; return the folder."""
    torch.manual_seed(settings.seed)
    network = build().to(memory_format=torch.channels_last)
    average = Average(network, decay=0.998)
    weights = list(network.parameters())
    optimiser = MuonAdamW.of(network, Rates(2 * _RATE, _RATE, decay=0.01))
    place = settings.checkpoints / "autoencoder"
    start = 0
    if saved := Checkpoint.load(place):
        start = saved.restore(network, average, optimiser)
    stream = Pictures(settings, settings.seed + start)
    total = CROP_STEPS + WHOLE_STEPS
    for step in range(start, total):
        wanted = stream.batch(10, crops=step < CROP_STEPS)
        posterior = network.encode(wanted).latent_dist
        shown = network.decode(posterior.sample()).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = loss_of(shown, wanted, kl)
        network.zero_grad()
        loss.backward()
        clip(weights, 1.0)
        optimiser.step(
            warmup_stable_decay(
                step, warmup=100, stable=int(total * 0.6), decay=int(total * 0.4)
            )
        )
        average.update(step)
        progress.note(
            step + 1,
            total,
            loss=loss.item(),
            kl=kl.item(),
            psnr=decibels(shown.detach(), wanted),
        )
        if (step + 1) % 500 == 0:
            Checkpoint.of(step + 1, network, average, optimiser).save(place)
    finished = build()
    average.load_into(finished)
    whiten(finished, stream.batch(256, crops=False))
    folder = settings.pipeline / "vae"
    finished.save_pretrained(folder)
    check = stream.batch(128, crops=False)
    progress.tell(f"autoencoder: {evaluate(finished, check):.2f} dB")
    return folder


def decibels(shown: torch.Tensor, wanted: torch.Tensor) -> float:
    """The peak signal-to-noise ratio of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / F.mse_loss(shown.clamp(-1, 1), wanted)))


@torch.no_grad()
def evaluate(network: AutoencoderKL, pictures: torch.Tensor) -> float:
    """PSNR of the pictures through the network and back."""
    latents = network.encode(pictures).latent_dist.mode()
    return decibels(network.decode(latents).sample, pictures)


@torch.no_grad()
def whiten(network: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Fold a change of basis into the 1 x 1 convolutions: latents become white.

    After it the four channels are uncorrelated with unit variance, so the scaling
    factor is one and noise means the same in each of them.
    """
    means = network.encode(pictures).latent_dist.mean
    flat = means.permute(1, 0, 2, 3).flatten(1).double()
    center = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    # Symmetric whitening keeps each channel as close as it can to what it was.
    forward = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    back = vectors @ torch.diag(values.sqrt()) @ vectors.T
    channels = flat.size(0)
    inner, outer = network.quant_conv, network.post_quant_conv
    weight = inner.weight[:channels, :, 0, 0].double()
    bias = inner.bias[:channels].double()
    inner.weight[:channels] = (forward @ weight)[..., None, None].float()
    inner.bias[:channels] = (forward @ (bias - center)).float()
    inner.bias[channels:] += 2 * torch.diag(forward).log().float()
    weight = outer.weight[:, :, 0, 0].double()
    outer.bias += (weight @ center).float()
    outer.weight.copy_((weight @ back)[..., None, None].float())
