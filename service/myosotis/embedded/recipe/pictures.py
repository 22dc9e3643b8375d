"""Icons on a canvas: placement, backgrounds, and batches of 64 x 64 pictures."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from myosotis.embedded.recipe.rasters import Raster

SIDE = 64
WHITE = (255, 255, 255)
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an icon stands: its size as a share of the canvas, its shift in pixels."""

    scale: float = 0.9
    right: int = 0
    down: int = 0
    mirrored: bool = False

    @classmethod
    def draw(
        cls, rng: random.Random, low: float, high: float, mirrored: float = 0.0
    ) -> "Placement":
        """A random placement that keeps the icon inside the canvas."""
        scale = rng.uniform(low, high)
        margin = int(SIDE * (1 - scale) / 2)
        right, down = (rng.randint(-margin, margin) for _ in range(2))
        return cls(scale, right, down, rng.random() < mirrored)


def compose(
    raster: Raster,
    placement: Placement = Placement(),
    background: tuple[int, int, int] = WHITE,
) -> Picture:
    """The icon on a plain canvas."""
    canvas = Image.new("RGBA", (SIDE, SIDE), (*background, 255))
    _paste(canvas, raster, placement)
    return np.asarray(canvas)[..., :3]


def side_by_side(
    left: Raster, right: Raster, background: tuple[int, int, int] = WHITE
) -> Picture:
    """Two icons, each on its half of the canvas."""
    canvas = Image.new("RGBA", (SIDE, SIDE), (*background, 255))
    _paste(canvas, left, Placement(0.48, right=-SIDE // 4))
    _paste(canvas, right, Placement(0.48, right=SIDE // 4))
    return np.asarray(canvas)[..., :3]


def _paste(canvas: Image.Image, raster: Raster, placement: Placement) -> None:
    side = round(SIDE * placement.scale)
    # Premultiplied, or transparent pixels bleed their colour into the edges.
    icon = Image.fromarray(raster).convert("RGBa")
    icon = icon.resize((side, side), Image.Resampling.BICUBIC).convert("RGBA")
    if placement.mirrored:
        icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    free = SIDE - side
    left = min(max(free // 2 + placement.right, 0), free)
    top = min(max(free // 2 + placement.down, 0), free)
    canvas.alpha_composite(icon, (left, top))
