"""Training and calibration of the judge: `python -m tests.judge.training`.

About ten minutes on one CPU core. It needs the recipe's stages `fetch` and `rasterise`.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from myosotis.embedded.recipe.concepts import CONCEPTS, STYLES
from myosotis.embedded.recipe.rasters import Rasters
from myosotis.embedded.recipe.settings import DEFAULT_CACHE, Settings
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional

from tests.judge.judge import FOLDER, Judge
from tests.judge.network import JudgeNetwork
from tests.judge.pictures import BROKEN, broken, shown

UNSEEN_VENDORS = ("noto-v1", "fluent-flat", "emojione")
STEPS = 1100
BATCH, BROKEN_SHARE = 72, 8
RATE = 2e-3
# Of broken pictures, so many may pass as clear.
BROKEN_AS_CLEAR = 0.02


class Icons:
    """Petal's icons by concept and style."""

    def __init__(self, folder: Path) -> None:
        sources = [Rasters(folder, style) for style in STYLES]
        self.grid = [[source[c.icon] for source in sources] for c in CONCEPTS]
        self.all = [icon for row in self.grid for icon in row]


def batch(
    icons: Icons, rng: random.Random
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, concepts and styles; the last pictures are broken ones."""
    cells = rng.sample(range(len(icons.all)), BATCH - BROKEN_SHARE)
    pictures = [shown(icons.all[cell], rng) for cell in cells]
    pictures += [
        broken(rng.choice(BROKEN), rng.sample(icons.all, 6), rng)
        for _ in range(BROKEN_SHARE)
    ]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    numbers = torch.tensor(cells)
    return pixels, numbers // len(STYLES), numbers % len(STYLES)


def train(icons: Icons, checkpoint: Path) -> JudgeNetwork:
    """Cross-entropy on icons; on broken pictures every concept shall be as likely."""
    torch.manual_seed(11)
    network = JudgeNetwork(len(CONCEPTS), len(STYLES))
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=STEPS, pct_start=0.1
    )
    rng = random.Random(13)  # noqa: S311
    for step in range(STEPS):
        pixels, concepts, styles = batch(icons, rng)
        told_concepts, told_styles = network(pixels)
        good = len(concepts)
        loss = (
            functional.cross_entropy(
                told_concepts[:good], concepts, label_smoothing=0.05
            )
            + functional.cross_entropy(told_styles[:good], styles)
            - 0.3 * told_concepts[good:].log_softmax(1).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        if step % 100 == 99:
            hit = (told_concepts[:good].argmax(1) == concepts).float().mean()
            sys.stdout.write(f"{step + 1}/{STEPS} loss {loss:.3f} hit {hit:.3f}\n")
            sys.stdout.flush()
            save_file(average.module.state_dict(), checkpoint)
    network.load_state_dict(load_file(checkpoint))
    return network.eval()


def calibrate(network: JudgeNetwork, icons: Icons) -> dict[str, float]:
    """The temperature by the likelihood of icons, the threshold by broken pictures."""
    rng = random.Random(17)  # noqa: S311
    cells = [*range(len(icons.all))] * 2
    pictures = np.stack([shown(icons.all[cell], rng) for cell in cells])
    concepts = torch.tensor(cells) // len(STYLES)
    raw = Judge(network, [c.noun for c in CONCEPTS], STYLES, 0.0, 1.0)
    logits = torch.from_numpy(raw.chances(pictures)[0]).clamp(min=1e-9).log()
    temperatures = [0.5 + 0.05 * i for i in range(31)]
    temperature = min(
        temperatures,
        key=lambda t: float(functional.cross_entropy(logits / t, concepts)),
    )
    warm = Judge(network, raw.concepts, STYLES, 0.0, temperature)
    confidence = warm.chances(broken_pictures(icons, 100, rng))[0].max(1)
    threshold = float(np.quantile(confidence, 1 - BROKEN_AS_CLEAR))
    return {"temperature": temperature, "threshold": round(max(threshold, 0.5), 3)}


def broken_pictures(icons: Icons, each: int, rng: random.Random) -> NDArray[np.uint8]:
    """*each* pictures broken in each way."""
    return np.stack(
        [
            broken(kind, rng.sample(icons.all, 6), rng)
            for kind in BROKEN
            for _ in range(each)
        ]
    )


def measure(judge: Judge, folder: Path) -> dict[str, float]:
    """Accuracy and clarity on fresh pictures of every kind."""
    rng = random.Random(19)  # noqa: S311
    icons = Icons(folder)
    cells = [*range(len(icons.all))] * 2
    judged = judge.judge(np.stack([shown(icons.all[cell], rng) for cell in cells]))
    right = [
        j.concept == CONCEPTS[cell // len(STYLES)].noun
        for j, cell in zip(judged, cells, strict=True)
    ]
    styled = [
        j.style == STYLES[cell % len(STYLES)]
        for j, cell in zip(judged, cells, strict=True)
    ]
    clear = [j.clear for j in judged]
    figures = {
        "judge_real_accuracy": np.mean(right),
        "judge_real_style_accuracy": np.mean(styled),
        "judge_real_clear": np.mean(clear),
        "judge_real_accuracy_when_clear": np.mean(
            [r for r, c in zip(right, clear, strict=True) if c]
        ),
        "judge_real_n": len(cells),
    }
    for kind in BROKEN:
        rotten = np.stack(
            [broken(kind, rng.sample(icons.all, 6), rng) for _ in range(200)]
        )
        figures[f"judge_{kind}_clear"] = np.mean([j.clear for j in judge.judge(rotten)])
    hits = []
    for vendor in UNSEEN_VENDORS:
        rasters = Rasters(folder, vendor)
        own = [c for c in CONCEPTS if c.icon in rasters]
        judged = judge.judge(
            np.stack([shown(rasters[c.icon], rng, strength=0) for c in own])
        )
        found = [j.concept == c.noun for j, c in zip(judged, own, strict=True)]
        figures[f"judge_{vendor}_accuracy"] = np.mean(found)
        figures[f"judge_{vendor}_n"] = len(found)
        hits += found
    figures["judge_unseen_vendor_accuracy"] = np.mean(hits)
    figures["judge_unseen_vendor_n"] = len(hits)
    return {name: round(float(value), 4) for name, value in figures.items()}


def main() -> int:
    """Train, calibrate, measure and write the judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.judge.training")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    settings = Settings(cache=parser.parse_args().cache)
    torch.set_num_threads(1)
    icons = Icons(settings.rasters)
    network = train(icons, settings.cache / "judge.safetensors")
    facts = calibrate(network, icons)
    weights = {
        n: value.half().contiguous() for n, value in network.state_dict().items()
    }
    save_file(weights, FOLDER / "judge.safetensors")
    (FOLDER / "judge.safetensors").chmod(0o644)
    names = {"concepts": [c.noun for c in CONCEPTS], "styles": list(STYLES)}
    (FOLDER / "judge.json").write_text(json.dumps({**facts, **names}, indent=1) + "\n")
    figures = measure(Judge.load(), settings.rasters)
    (FOLDER / "measured.json").write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
