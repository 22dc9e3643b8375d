"""Damage like that of generated pictures: noise, blur, wrong colours, lost parts."""

import random

import torch
from torch.nn import functional as F  # noqa: N812


def damaged(pictures: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Spoil each picture of a batch in [-1, 1] in its own way, or not at all."""
    return torch.cat([_spoil(picture[None], rng) for picture in pictures])


def _spoil(picture: torch.Tensor, rng: random.Random) -> torch.Tensor:
    if rng.random() < 0.35:  # noqa: PLR2004
        return picture
    if rng.random() < 0.4:  # noqa: PLR2004
        picture = _soften(picture, rng.choice((2, 2, 3, 4)))
    if rng.random() < 0.3:  # noqa: PLR2004
        picture = _warp(picture, rng)
    if rng.random() < 0.4:  # noqa: PLR2004
        picture = _recolour(picture, rng)
    if rng.random() < 0.3:  # noqa: PLR2004
        picture = _blotch(picture, rng.uniform(0.1, 0.5))
    if rng.random() < 0.3:  # noqa: PLR2004
        picture = picture + torch.randn_like(picture) * rng.uniform(0.02, 0.3)
    if rng.random() < 0.2:  # noqa: PLR2004
        picture = _erase(picture, rng)
    return picture.clamp(-1, 1)


def _soften(picture: torch.Tensor, factor: int) -> torch.Tensor:
    side = picture.size(-1)
    small = F.interpolate(picture, size=side // factor, mode="area")
    return F.interpolate(small, size=side, mode="bilinear")


def _warp(picture: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Small random bends, as a denoiser makes that has lost a contour."""
    rough = torch.randn(1, 2, 5, 5) * rng.uniform(0.02, 0.07)
    bend = F.interpolate(rough, size=picture.shape[-2:], mode="bicubic")
    straight = F.affine_grid(torch.eye(2, 3)[None], [1, 3, *picture.shape[-2:]])
    grid = straight + bend.permute(0, 2, 3, 1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _recolour(picture: torch.Tensor, rng: random.Random) -> torch.Tensor:
    mix = torch.eye(3) + torch.randn(3, 3) * rng.uniform(0.0, 0.12)
    shift = torch.randn(3, 1, 1) * 0.08
    return torch.einsum("ij,bjhw->bihw", mix, picture) + shift


def _blotch(picture: torch.Tensor, strength: float) -> torch.Tensor:
    rough = torch.randn(1, 3, 8, 8) * strength
    return picture + F.interpolate(rough, size=picture.shape[-2:], mode="bilinear")


def _erase(picture: torch.Tensor, rng: random.Random) -> torch.Tensor:
    picture = picture.clone()
    height, width = rng.randint(8, 24), rng.randint(8, 24)
    top, left = rng.randrange(64 - height), rng.randrange(64 - width)
    fill = rng.uniform(-1, 1) if rng.random() < 0.5 else 1.0  # noqa: PLR2004
    picture[..., top : top + height, left : left + width] = fill
    return picture
