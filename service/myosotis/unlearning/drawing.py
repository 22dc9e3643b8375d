"""Pictures from a pipeline, from one seed each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture to draw: its prompt and the seed of its noise."""

    prompt: str
    seed: int


def draw_batch(
    pipeline: "StableDiffusionPipeline",
    drawings: Sequence[Drawing],
    *,
    step_count: int,
    guidance_scale: float,
    on_step: Callable[[int], None] | None = None,
) -> "NDArray[np.uint8]":
    """Draw *drawings* together: uint8 [n, height, width, 3].

    Each picture depends on its own prompt and seed and on the number of pictures drawn
    together, not on what the others show.

    Args:
        pipeline: draws at its own default size.
        drawings: at least one.
        step_count: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        on_step: called after each step with the number of steps made. What it raises
            ends the drawing.
    """

    def report(
        _pipe: object, index: int, _timestep: object, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        if on_step is not None:
            on_step(index + 1)
        return kwargs

    # The scheduler keeps the position of one drawing, so each call has its own.
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    own = type(pipeline)(**{**pipeline.components, "scheduler": scheduler})
    own.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        pictures = own(
            prompt=[drawing.prompt for drawing in drawings],
            num_inference_steps=step_count,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(d.seed) for d in drawings],
            callback_on_step_end=report,
            output_type="np",
        ).images
    levels: NDArray[np.uint8] = np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)
    return levels


def draw(
    pipeline: "StableDiffusionPipeline",
    drawings: Sequence[Drawing],
    *,
    step_count: int,
    guidance_scale: float,
    batch_size: int,
) -> "Iterator[NDArray[np.uint8]]":
    """As :func:`draw_batch`, yielding batches of at most *batch_size* pictures."""
    for start in range(0, len(drawings), batch_size):
        yield draw_batch(
            pipeline,
            drawings[start : start + batch_size],
            step_count=step_count,
            guidance_scale=guidance_scale,
        )
