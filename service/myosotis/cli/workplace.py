"""What commands that draw have in common: a model, and maybe a patch on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from myosotis.digests import Digest
from myosotis.execution.models import ModelSource, load_model
from myosotis.execution.staging import read_patch_folder, stage_patch
from myosotis.serving.slot import WeightSlot

if TYPE_CHECKING:
    from torch import nn

    from myosotis.patches.manifest import PatchManifest
    from myosotis.unlearning.models import TextToImageModel


@dataclass(frozen=True, slots=True)
class PatchedModel:
    """A loaded model, and the UNet that a patch makes of its base.

    Attributes:
        source: where it was loaded from.
        model: its own UNet is the base.
        base_digest: of the base weights.
        patch: manifest of the patch; None without one.
        unet: verified and built as a server builds it; None without a patch.
    """

    source: ModelSource
    model: "TextToImageModel"
    base_digest: str
    patch: "PatchManifest | None" = None
    unet: "nn.Module | None" = None

    @property
    def patch_digest(self) -> str:
        """SHA-256 of the patch's manifest; empty without a patch."""
        return Digest.of(self.patch.to_bytes()).sha256 if self.patch else ""


def load_patched(model: str, patch: Path | None) -> PatchedModel:
    """Load a model and, where *patch* is given, verify and build that folder.

    Args:
        model: as :meth:`ModelSource.parse` reads it.
        patch: a folder with ``manifest.json`` and ``patch.safetensors``.

    Raises:
        InvalidArgumentError: a malformed model name.
        UnavailableError: the model or the folder cannot be read.
        PatchRefusedError: the first thing about the patch that is not right.
    """
    source = ModelSource.parse(model)
    # Read first: a folder that is not there needs no model to be loaded.
    read = read_patch_folder(patch) if patch is not None else None
    loaded = load_model(source)
    slot = WeightSlot(source.name, loaded.pipeline.unet)
    digest = slot.holding().base_digest
    if read is None:
        return PatchedModel(source, loaded, digest)
    snapshot = stage_patch(slot, *read)
    return PatchedModel(source, loaded, digest, read[0], snapshot.unet)
