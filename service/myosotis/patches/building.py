"""Building patches: from an erasure and its evidence to a manifest and its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from myosotis.patches.fingerprint import TORCH_DTYPES, Fingerprint, fingerprints
from myosotis.patches.manifest import PatchManifest
from myosotis.patches.tensor_files import write_tensor_file
from myosotis.unlearning.changes import changed_tensors

if TYPE_CHECKING:
    from myosotis.policy.plans import ErasurePlan
    from myosotis.unlearning.erasures import Erasure
    from myosotis.unlearning.models import TextToImageModel
    from myosotis.validation.gate import GateResult
    from myosotis.validation.measurements import Measurement


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who asked for a patch, and what was found about it.

    Attributes:
        policy_revision: registry revision that asked for it; 0 when nobody did.
        measurements: before and after.
        gate_results: why it may be rolled out.
        unlearning_run: the run that made it; empty when made by hand.
        created_at: ISO 8601, UTC.
    """

    policy_revision: int = 0
    measurements: "tuple[Measurement, ...]" = ()
    gate_results: "tuple[GateResult, ...]" = ()
    unlearning_run: str = ""
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class BuiltPatch:
    """A manifest and the bytes of its tensor file, empty when nothing changes."""

    manifest: PatchManifest
    content: bytes


def build_patch(
    model: "TextToImageModel",
    plan: "ErasurePlan",
    erasure: "Erasure",
    evidence: Evidence,
    *,
    base_fingerprints: Mapping[str, Fingerprint] | None = None,
) -> BuiltPatch:
    """Bind an erasure to its base, its plan and its evidence.

    Args:
        model: holds the pristine base.
        plan: what was erased.
        erasure: its changes.
        evidence: goes into the manifest as it is.
        base_fingerprints: of the base, where the caller has kept them
            (:func:`.fingerprint.fingerprints`); computed otherwise.

    Raises:
        ValueError: an erasure of other concepts than the plan's, or of other tensors
            than the base's.
    """
    concepts = tuple(planned.name for planned in plan.concepts)
    if set(erasure.methods) != set(concepts):
        raise ValueError("the erasure is not of this plan")
    state = model.pipeline.unet.state_dict()
    kept = base_fingerprints or fingerprints(state)
    file = write_tensor_file(state, erasure.changes)
    manifest = PatchManifest(
        model=model.name,
        base_digest=kept["F32"].root,
        plan_digest=plan.digest,
        policy_revision=evidence.policy_revision,
        concepts=concepts,
        methods={name: str(erasure.methods[name]) for name in concepts},
        tensor_roots=_roots(kept, changed_tensors(state, erasure.changes)),
        tensor_file=file.digest,
        tensors=file.tensors,
        measurements=evidence.measurements,
        gate_results=evidence.gate_results,
        unlearning_run=evidence.unlearning_run,
        created_at=evidence.created_at,
    )
    return BuiltPatch(manifest, file.content)


def _roots(
    kept: Mapping[str, Fingerprint], patched: Mapping[str, Tensor]
) -> dict[str, str]:
    """The roots after patching, without the types that cannot hold the values."""
    return {
        dtype: fingerprint.with_tensors(patched).root
        for dtype, fingerprint in kept.items()
        if all(
            bool(torch.isfinite(tensor.to(TORCH_DTYPES[dtype])).all())
            for tensor in patched.values()
        )
    }
