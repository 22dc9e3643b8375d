"""Where models come from: Petal from the package, others from a folder or a hub id."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from myosotis import names, records
from myosotis.embedded import petal
from myosotis.errors import InvalidArgumentError, UnavailableError
from myosotis.unlearning.models import ModelCard, TextToImageModel

if TYPE_CHECKING:
    from myosotis.validation.ports import Detector


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model and where its weights are.

    Attributes:
        name: ``models/{model}``.
        location: a folder in diffusers' format, a hub id, or empty for Petal. A
            ``card.json`` in the folder is read as its :class:`ModelCard`.
    """

    name: str
    location: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``models/petal`` or ``models/{model}=LOCATION``.

        Raises:
            InvalidArgumentError: a malformed name, or no location for another model.
        """
        name, _, location = text.partition("=")
        names.parse("model", name, field="model")
        if not location and name != petal.NAME:
            raise InvalidArgumentError(
                "model", f"{name} needs a place: {name}=FOLDER or {name}=HUB_ID"
            )
        return cls(name, location)


def load_model(source: ModelSource) -> TextToImageModel:
    """Load a model in 32-bit floats, in evaluation mode.

    Raises:
        UnavailableError: the weights cannot be read.
    """
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    location = source.location or str(petal.folder() / "pipeline")
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            location, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UnavailableError(
            source.name, f"cannot be loaded: {first_line}"
        ) from error
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.eval().requires_grad_(requires_grad=False)
    pipeline.set_progress_bar_config(disable=True)
    return TextToImageModel(source.name, pipeline, _card(source))


def load_detector(source: ModelSource) -> "Detector":
    """The detector that belongs to a model.

    Raises:
        UnavailableError: this version has a detector for Petal only.
    """
    if source.location:
        raise UnavailableError(source.name, "has no detector, so nothing can be proven")
    # Here, because loading a model that nobody measures needs no detector.
    from myosotis.embedded.detector import ZeroShotDetector  # noqa: PLC0415

    card = petal.card()
    return ZeroShotDetector(petal.folder() / "detector", card.templates)


def _card(source: ModelSource) -> ModelCard:
    if not source.location:
        return petal.card()
    path = Path(source.location) / "card.json"
    return (
        records.from_json(ModelCard, path.read_bytes())
        if path.is_file()
        else ModelCard()
    )
