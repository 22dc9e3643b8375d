"""Pictures of every concept in every style, and what the detector says of them."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from myosotis.embedded.recipe import export, unet
from myosotis.embedded.recipe.captions import canonical
from myosotis.embedded.recipe.concepts import CONCEPTS, STYLES
from myosotis.embedded.recipe.detector import Detector
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.settings import Settings

_BATCH = 52
_COLUMNS = 24
FREE_PROMPTS = (
    "a dog on a blue background", "a pizza with a pink background, fluent style",
    "a red apple", "a puppy in noto style", "an emoji of a robot", "a witch",
    "a cat and a rocket, twemoji style", "a ninja and a pizza, noto style",
    "a happy dog", "a spaceship", "a pirate", "a table, fluent style",
    "a green car", "a king, noto style", "a bird", "something",
)  # fmt: skip
"""Phrasings, backgrounds, couples, and things that are not on the list."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Which weights draw what."""

    checkpoint: str = "unet"
    every: int = 1
    """Every so many-th concept is drawn."""
    guidance: float = export.GUIDANCE_SCALE
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One concept in one style."""

    concept: int
    style: int

    @property
    def prompt(self) -> str:
        """The plain prompt."""
        return canonical(CONCEPTS[self.concept].phrase, STYLES[self.style])


def cells(every: int = 1) -> list[Cell]:
    """All concepts x styles, or every so many-th concept's."""
    return [
        Cell(concept, style)
        for concept in range(0, len(CONCEPTS), every)
        for style in range(len(STYLES))
    ]


def draw(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    seed: int,
    guidance: float = export.GUIDANCE_SCALE,
    steps: int = export.STEP_COUNT,
) -> NDArray[np.uint8]:
    """One picture [64, 64, 3] for each prompt, each with a seed of its own."""
    parts = []
    for start in range(0, len(prompts), _BATCH):
        part = list(prompts[start : start + _BATCH])
        generators = [
            torch.Generator().manual_seed(seed * 100_003 + start + index)
            for index in range(len(part))
        ]
        images = pipeline(
            prompt=part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
            height=64,
            width=64,
        ).images
        parts.append((images * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def sheet(pictures: NDArray[np.uint8], path: Path, columns: int = _COLUMNS) -> None:
    """All pictures on one sheet, row by row."""
    blanks = -len(pictures) % columns
    filled = np.concatenate(
        [pictures, np.full((blanks, *pictures.shape[1:]), 255, dtype=np.uint8)]
    )
    rows = filled.reshape(-1, columns, *pictures.shape[1:])
    lines = [np.concatenate(list(row), axis=1) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)).save(path, optimize=True)


def run(settings: Settings, trial: Trial, progress: Progress) -> Path:
    """Draw with a checkpoint's averaged weights, read the pictures, write it all."""
    denoiser = unet.averaged(settings.checkpoints / trial.checkpoint)
    pipeline = export.assemble(settings, denoiser)
    asked = cells(trial.every)
    prompts = [cell.prompt for cell in asked]
    started = time.monotonic()
    pictures = draw(pipeline, prompts, seed=trial.seed, guidance=trial.guidance)
    seconds = (time.monotonic() - started) / len(asked)
    folder = settings.cache / "evaluation" / f"{trial.checkpoint}-{trial.every}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pictures.npy", pictures)
    sheet(pictures, folder / "pictures.png")
    free = draw(pipeline, FREE_PROMPTS, seed=trial.seed, guidance=trial.guidance)
    sheet(free, folder / "free.png", columns=len(FREE_PROMPTS))
    figures = read(settings, asked, pictures)
    figures["seconds_per_picture"] = round(seconds, 3)
    figures["guidance"] = trial.guidance
    text = json.dumps(figures, indent=1) + "\n"
    (folder / "detector.json").write_text(text)
    told = {k: v for k, v in figures.items() if isinstance(v, float | int)}
    progress.tell(f"evaluate: {told}")
    return folder


def read(
    settings: Settings, asked: Sequence[Cell], pictures: NDArray[np.uint8]
) -> dict[str, object]:
    """The detector's figures, whole, by group and by style; and its weak cells."""
    reading = Detector(settings).read(pictures)
    concepts = np.array([cell.concept for cell in asked])
    styles = np.array([cell.style for cell in asked])
    right = reading.concepts == concepts
    styled = reading.styles == styles
    groups: dict[str, list[bool]] = defaultdict(list)
    for cell, hit in zip(asked, right, strict=True):
        groups[CONCEPTS[cell.concept].group].append(bool(hit))
    chances = reading.chances[np.arange(len(asked)), concepts]
    return {
        "detector_concept_accuracy": round(float(right.mean()), 4),
        "detector_style_accuracy": round(float(styled.mean()), 4),
        "n": len(asked),
        "groups": {g: round(float(np.mean(hits)), 3) for g, hits in groups.items()},
        "styles": {
            name: round(float(right[styles == index].mean()), 3)
            for index, name in enumerate(STYLES)
        },
        "chances": {
            f"{cell.concept}.{cell.style}": round(float(chance * good), 3)
            for cell, chance, good in zip(asked, chances, styled, strict=True)
        },
    }


def emphasise(settings: Settings, checkpoint: str, progress: Progress) -> Path:
    """Have the denoiser see the cells more often that the detector finds weak."""
    source = settings.cache / "evaluation" / f"{checkpoint}-1" / "detector.json"
    chances = json.loads(source.read_text())["chances"]
    weights = [1.0] * (len(CONCEPTS) * len(STYLES))
    for key, chance in chances.items():
        concept, style = map(int, key.split("."))
        weights[concept * len(STYLES) + style] = 1 + 1.5 * (1 - chance)
    path = settings.cache / "emphasis.json"
    path.write_text(json.dumps(weights))
    progress.tell(f"emphasise: mean weight {np.mean(weights):.2f}")
    return path
