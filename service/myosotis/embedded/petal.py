"""Petal as it is installed: pipeline, card and detector, without network."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from myosotis import records
from myosotis.unlearning.models import ModelCard

NAME = "models/petal"


def folder() -> Path:
    """Where the installed package keeps Petal.

    ``pipeline/`` below it is in diffusers' format, ``detector/`` is read by
    :mod:`myosotis.embedded.detector`.
    """
    return Path(str(files("myosotis.embedded") / "petal"))


@cache
def card() -> ModelCard:
    """What is known of Petal beside its weights."""
    return records.from_json(ModelCard, (folder() / "card.json").read_bytes())
