"""What each generation draws, computed without any of the serving code."""

import io
from functools import cache

import numpy as np
import torch
from myosotis.unlearning.changes import changed_tensors
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.models import TextToImageModel
from numpy.typing import NDArray
from PIL import Image

from tests.serving.generations import Forge

STEPS = 2
GUIDANCE = 2.0


class Golden:
    """Pictures of the generations of one forge, made in place on a model of its own."""

    def __init__(self, model: TextToImageModel, forge: Forge) -> None:
        self._model = model
        self._forge = forge
        self._drawn = cache(self._draw)

    def picture(
        self, drawing: Drawing, seed: int | None, size: int, index: int
    ) -> NDArray[np.uint8]:
        """*drawing* at place *index* of *size*, by the generation of *seed*."""
        return self._drawn(drawing, seed, size)[index]

    def _draw(self, drawing: Drawing, seed: int | None, size: int) -> NDArray[np.uint8]:
        changes = {} if seed is None else self._forge.changes(seed)
        patched = changed_tensors(self._forge.state, changes)
        unet = self._model.pipeline.unet
        unet.load_state_dict({**self._forge.state, **patched})
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        batch = draw_batch(
            self._model.pipeline,
            [drawing] * size,
            step_count=STEPS,
            guidance_scale=GUIDANCE,
        )
        torch.set_num_threads(threads)
        return batch


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Largest difference in grey levels."""
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max())
