"""`python -m myosotis.embedded.recipe STAGE`: one stage of the recipe."""

# ruff: noqa: PLC0415 - each stage imports for itself; some need no torch

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.settings import DEFAULT_CACHE, Settings

Stage = Callable[[Settings, argparse.Namespace], None]


def _fetch(settings: Settings, _: argparse.Namespace) -> None:
    """Bring the icon packages of the lock, and check them."""
    from myosotis.embedded.recipe import artwork

    progress = Progress("fetch")
    for package in artwork.fetch(settings.npm):
        progress.tell(f"{package.package} {package.version}: verified")


def _rasterise(settings: Settings, _: argparse.Namespace) -> None:
    """Draw every icon of every source."""
    from myosotis.embedded.recipe import rasters

    counts = rasters.rasterise(settings.npm, settings.rasters)
    for source, count in counts.items():
        Progress("rasterise").tell(f"{source}: {count} icons")


def _tokenizer(settings: Settings, _: argparse.Namespace) -> None:
    """Learn the vocabulary."""
    from myosotis.embedded.recipe import tokenizer

    tokenizer.train(settings)


def _text(settings: Settings, arguments: argparse.Namespace) -> None:
    """Train the text tower by contrast with pictures."""
    _use_threads(arguments.threads)
    from myosotis.embedded.recipe import text_tower

    text_tower.train(settings, Progress("text", every=20))


def _autoencoder(settings: Settings, arguments: argparse.Namespace) -> None:
    """Train pictures to latents and back."""
    _use_threads(arguments.threads)
    from myosotis.embedded.recipe import autoencoder

    autoencoder.train(settings, Progress("autoencoder"))


def _cache(settings: Settings, arguments: argparse.Namespace) -> None:
    """Encode the pictures and captions that the denoiser trains on."""
    _use_threads(arguments.threads)
    from myosotis.embedded.recipe import latents

    latents.make(settings, Progress("cache"))


def _unet(settings: Settings, arguments: argparse.Namespace) -> None:
    """Train the denoiser until --steps; over the last --decay its rate falls."""
    from myosotis.embedded.recipe import unet

    plan = unet.Plan(arguments.steps, arguments.decay)
    unet.launch(settings, plan, arguments.world, arguments.rank)


def _detector(settings: Settings, arguments: argparse.Namespace) -> None:
    """Train the detector's image tower."""
    _use_threads(arguments.threads)
    from myosotis.embedded.recipe import detector

    detector.train(settings, Progress("detector"))


def _evaluate(settings: Settings, arguments: argparse.Namespace) -> None:
    """Draw all concepts in all styles and have the detector read them."""
    _use_threads(arguments.threads)
    from myosotis.embedded.recipe import evaluation

    trial = evaluation.Trial(
        arguments.checkpoint, arguments.every, arguments.guidance, arguments.seed
    )
    evaluation.run(settings, trial, Progress("evaluate"))


def _emphasise(settings: Settings, arguments: argparse.Namespace) -> None:
    """After `evaluate`: have the denoiser see weak cells more often."""
    from myosotis.embedded.recipe import evaluation

    evaluation.emphasise(settings, arguments.checkpoint, Progress("emphasise"))


def _export(settings: Settings, arguments: argparse.Namespace) -> None:
    """Write the folder that is packaged."""
    from myosotis.embedded.recipe import export

    export.write(settings, arguments.checkpoint, Progress("export"))


STAGES: dict[str, Stage] = {
    "fetch": _fetch,
    "rasterise": _rasterise,
    "tokenizer": _tokenizer,
    "text": _text,
    "autoencoder": _autoencoder,
    "cache": _cache,
    "unet": _unet,
    "detector": _detector,
    "evaluate": _evaluate,
    "emphasise": _emphasise,
    "export": _export,
}


def main() -> int:
    """Run the stage that the command line names."""
    arguments = _parser().parse_args()
    STAGES[arguments.stage](Settings(cache=arguments.cache), arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    stages = "\n".join(f"  {name:12} {run.__doc__}" for name, run in STAGES.items())
    parser = argparse.ArgumentParser(
        prog="python -m myosotis.embedded.recipe",
        description=f"Make Petal, stage by stage:\n\n{stages}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=list(STAGES), metavar="STAGE")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument("--steps", type=int, default=12000, help="unet: the last step")
    parser.add_argument("--decay", type=int, default=0, help="unet: steps of decay")
    parser.add_argument("--world", type=int, default=2, help="unet: processes")
    parser.add_argument(
        "--checkpoint", default="unet", help="evaluate, emphasise, export: which one"
    )
    parser.add_argument("--every", type=int, default=1, help="evaluate: a part of all")
    parser.add_argument("--guidance", type=float, default=2.5, help="evaluate")
    parser.add_argument("--seed", type=int, default=1, help="evaluate: of the noise")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


if __name__ == "__main__":
    sys.exit(main())
