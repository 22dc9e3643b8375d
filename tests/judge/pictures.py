"""The judge's own pictures: icons under changes that the detector never trains on."""

import io
import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

SIDE = 64
Picture = NDArray[np.uint8]


def shown(icon: Picture, rng: random.Random, strength: float = 1.0) -> Picture:
    """An icon [128, 128, 4], tilted, sheared and placed anew, on a canvas, altered."""
    canvas = Image.new("RGBA", (SIDE, SIDE), (*_background(rng), 255))
    canvas.alpha_composite(_placed(icon, rng, strength))
    return np.asarray(_altered(canvas.convert("RGB"), rng, strength))


def _background(rng: random.Random) -> tuple[int, int, int]:
    choice = rng.random()
    if choice < 0.6:
        return (255, 255, 255)
    if choice < 0.75:
        gray = rng.randrange(200, 256)
        return (gray, gray, gray)
    return (rng.randrange(60, 256), rng.randrange(60, 256), rng.randrange(60, 256))


def _placed(icon: Picture, rng: random.Random, strength: float) -> Image.Image:
    image = Image.fromarray(icon).convert("RGBa")
    turn = math.radians(rng.gauss(0, 6) * strength)
    shear = rng.gauss(0, 0.08) * strength
    zoom = 128 / SIDE / rng.uniform(0.72, 1.02)
    stretch = math.exp(rng.gauss(0, 0.06) * strength)
    right, down = (rng.gauss(0, 2.5) for _ in range(2))
    cos, sin = math.cos(turn) * zoom, math.sin(turn) * zoom
    a, b = cos * stretch, (-sin + shear * zoom)
    d, e = sin, cos / stretch
    middle = SIDE / 2
    c = 64 - a * (middle + right) - b * (middle + down)
    f = 64 - d * (middle + right) - e * (middle + down)
    image = image.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BICUBIC,
    ).convert("RGBA")
    if rng.random() < 0.15:
        image = ImageOps.mirror(image)
    return image


def _altered(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    if rng.random() < 0.6 * strength:
        for enhance in (
            ImageEnhance.Brightness,
            ImageEnhance.Contrast,
            ImageEnhance.Color,
        ):
            image = enhance(image).enhance(math.exp(rng.gauss(0, 0.2)))
    if rng.random() < 0.2 * strength:
        hue, saturation, value = image.convert("HSV").split()
        turn = rng.randint(-14, 14)
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if rng.random() < 0.35 * strength:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
    if rng.random() < 0.1 * strength:
        image = image.filter(ImageFilter.MedianFilter(3))
    if rng.random() < 0.1 * strength:
        image = image.filter(ImageFilter.UnsharpMask(2, rng.randint(60, 200)))
    if rng.random() < 0.4 * strength:
        image = _compressed(image, rng.randint(8, 70))
    if rng.random() < 0.15 * strength:
        image = ImageOps.posterize(image, rng.randint(3, 5))
    return image


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


BROKEN = ("noise", "static", "shuffled", "blurred", "averaged", "plain")
"""Ways in which a picture shows nothing."""


def broken(kind: str, icons: Sequence[Picture], rng: random.Random) -> Picture:
    """A picture that shows nothing, made from *icons*, which are six at least."""
    noise = np.random.default_rng(rng.randrange(2**32))
    if kind == "noise":
        size = rng.choice((8, 16, 32, 64))
        rough = noise.integers(0, 256, (size, size, 3), dtype=np.uint8)
        image = Image.fromarray(rough)
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    if kind == "static":
        picture = shown(icons[0], rng).astype(np.float64)
        spoiled = 0.25 * picture + noise.normal(128, 90, picture.shape)
        return spoiled.clip(0, 255).astype(np.uint8)
    if kind == "shuffled":
        return _shuffled(shown(icons[0], rng), rng.choice((8, 16)), noise)
    if kind == "blurred":
        image = Image.fromarray(shown(icons[0], rng))
        blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(8, 14)))
        return np.asarray(blurred)
    if kind == "averaged":
        layers = [shown(icon, rng).astype(np.float64) for icon in icons[:6]]
        return np.mean(layers, axis=0).astype(np.uint8)
    if kind == "plain":
        color = [rng.randrange(256) for _ in range(3)]
        color = [255] * 3 if rng.random() < 0.3 else color
        flat = np.full((SIDE, SIDE, 3), color, dtype=np.float64)
        return (flat + noise.normal(0, 6, flat.shape)).clip(0, 255).astype(np.uint8)
    raise ValueError(f"no way to break a picture: {kind}")


def _shuffled(picture: Picture, tile: int, noise: np.random.Generator) -> Picture:
    count = SIDE // tile
    tiles = picture.reshape(count, tile, count, tile, 3).swapaxes(1, 2)
    tiles = tiles.reshape(count * count, tile, tile, 3)
    tiles = tiles[noise.permutation(len(tiles))].reshape(count, count, tile, tile, 3)
    return tiles.swapaxes(1, 2).reshape(SIDE, SIDE, 3)
