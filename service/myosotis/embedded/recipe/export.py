"""Petal as it is packaged: pipeline, detector, card, and the digest of all of it."""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from myosotis.embedded.recipe import diffusion, unet
from myosotis.embedded.recipe import tokenizer as tokens
from myosotis.embedded.recipe.concepts import CONCEPTS, STYLES, without_article
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.settings import Settings

VERSION = "1.0.0"
STEP_COUNT = 20
GUIDANCE_SCALE = 2.5
# These take no article, or not the one that their first letter asks for.
_BARE = frozenset(
    {"santa claus", "crossed swords", "french fries", "grapes", "cherries"}
    | {"broccoli", "popcorn", "unicorn"}
)


def assemble(
    settings: Settings, denoiser: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The whole pipeline in memory, in single precision."""
    parts = settings.pipeline
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(parts / "text_encoder"),
        tokenizer=tokens.load(settings),
        unet=denoiser,
        scheduler=diffusion.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write(settings: Settings, checkpoint: str, progress: Progress) -> Path:
    """Write the folder that is to be packaged, from the checkpoint of that name."""
    folder = settings.staged
    shutil.rmtree(folder, ignore_errors=True)
    denoiser = unet.averaged(settings.checkpoints / checkpoint)
    pipeline = assemble(settings, denoiser).to(dtype=torch.float16)
    pipeline.save_pretrained(folder / "pipeline", safe_serialization=True)
    detector = folder / "detector"
    shutil.copytree(settings.pipeline / "detector", detector)
    tower = CLIPTextModelWithProjection.from_pretrained(
        settings.pipeline / "text_tower"
    )
    tower.half().save_pretrained(detector / "text_encoder")
    tokens.load(settings).save_pretrained(detector / "tokenizer")
    card = json.dumps(card_of_concepts(), indent=1) + "\n"
    (folder / "card.json").write_text(card)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            # The library writes weights that only their owner can read.
            file.chmod(0o644)
    facts = {"version": VERSION, "sha256": digest(folder)}
    (folder / "version.json").write_text(json.dumps(facts, indent=1) + "\n")
    size = sum(file.stat().st_size for file in (folder / "pipeline").rglob("*.*"))
    progress.tell(f"export: {folder}, pipeline {size / 1e6:.1f} MB, {facts['sha256']}")
    return folder


def card_of_concepts() -> dict[str, object]:
    """What the product knows of Petal beside its weights."""
    return {
        "version": VERSION,
        "step_count": STEP_COUNT,
        "guidance_scale": GUIDANCE_SCALE,
        "image_size": 64,
        "articles": True,
        "bare_nouns": sorted(_BARE),
        "templates": [
            *(f"{{}}, {style} style" for style in STYLES),
            "an emoji of {}",
            "a picture of {}",
        ],
        "vocabulary": [
            {
                "noun": concept.noun,
                "synonyms": [without_article(s) for s in concept.synonyms],
                "group": concept.group,
            }
            for concept in CONCEPTS
        ],
    }


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of every file but `version.json`."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != "version.json":
            name = file.relative_to(folder).as_posix()
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
