"""Patches outside of a fleet: built as inference servers build them, and read back."""

from pathlib import Path

from myosotis.digests import Digest
from myosotis.errors import UnavailableError
from myosotis.patches.manifest import GenerationManifest, PatchManifest
from myosotis.serving.slot import Snapshot, WeightSlot

MANIFEST_NAME = "manifest.json"
TENSOR_FILE_NAME = "patch.safetensors"


def stage_patch(slot: WeightSlot, manifest: PatchManifest, content: bytes) -> Snapshot:
    """Verify a patch and build its weights, by the code that servers run.

    Args:
        slot: holds the base weights.
        manifest: of the patch.
        content: its tensor file; empty where the manifest names none.

    Raises:
        PatchRefusedError: for the first thing that is not as it has to be.
    """
    generation = GenerationManifest(
        model=slot.model,
        generation=1,
        policy_revision=manifest.policy_revision,
        patch_digest=Digest.of(manifest.to_bytes()).sha256,
        patch=manifest,
    )
    return slot.stage(generation, content)


def read_patch_folder(folder: Path) -> tuple[PatchManifest, bytes]:
    """The manifest and the tensor file of a patch folder, not yet verified.

    Raises:
        UnavailableError: a file cannot be read.
        PatchRefusedError: MALFORMED_MANIFEST.
    """
    manifest = PatchManifest.from_bytes(_read(folder / MANIFEST_NAME))
    path = folder / TENSOR_FILE_NAME
    return manifest, _read(path) if manifest.tensor_file or path.exists() else b""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnavailableError(str(path), error.strerror or str(error)) from error
