"""Builders of generations for a real model, with changes that pictures show."""

import hashlib
from dataclasses import replace

import torch
from myosotis.patches.fingerprint import fingerprints
from myosotis.patches.manifest import GenerationManifest, PatchManifest
from myosotis.patches.tensor_files import TensorFile, write_tensor_file
from myosotis.unlearning.changes import Change, Dense, LowRank, changed_tensors
from torch import Tensor, nn

Generation = tuple[GenerationManifest, bytes]

_DENSE = "conv_in.weight"


class Forge:
    """Makes generations of one model."""

    def __init__(self, model: str, unet: nn.Module) -> None:
        self.model = model
        self.state = {n: t.detach().clone() for n, t in unet.state_dict().items()}
        self.fingerprints = fingerprints(self.state)

    def changes(self, seed: int) -> dict[str, Change]:
        """Strong changes of every cross-attention value, and of one kernel."""
        numbers = torch.Generator().manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=numbers)

        changes: dict[str, Change] = {}
        for name, tensor in self.state.items():
            if name.endswith("attn2.to_v.weight"):
                outputs, inputs = tensor.shape
                changes[name] = LowRank(noise(outputs, 2), noise(2, inputs))
        kernel = self.state[_DENSE]
        changes[_DENSE] = Dense(kernel + 0.2 * noise(*kernel.shape))
        return changes

    def generation(self, number: int, seed: int | None = None) -> Generation:
        """Generation *number* with the changes of *seed*; None changes nothing."""
        changes = {} if seed is None else self.changes(seed)
        file = write_tensor_file(self.state, changes)
        return self.signed(number, self.patch(file, changes)), file.content

    def patch(self, file: TensorFile, changes: dict[str, Change]) -> PatchManifest:
        patched = changed_tensors(self.state, changes)
        return PatchManifest(
            model=self.model,
            base_digest=self.fingerprints["F32"].root,
            plan_digest=hashlib.sha256(file.content).hexdigest(),
            policy_revision=1,
            concepts=("policies/p/concepts/dog",),
            methods={"policies/p/concepts/dog": "CLOSED_FORM"},
            tensor_roots={
                dtype: kept.with_tensors(patched).root
                for dtype, kept in self.fingerprints.items()
            },
            tensor_file=file.digest,
            tensors=file.tensors,
        )

    def signed(self, number: int, patch: PatchManifest) -> GenerationManifest:
        """A generation of *patch*; its policy revision is ten times its number."""
        return GenerationManifest(
            model=self.model,
            generation=number,
            policy_revision=10 * number,
            patch_digest=hashlib.sha256(patch.to_bytes()).hexdigest(),
            patch=patch,
            previous=number - 1,
        )

    def not_finite(self, number: int) -> Generation:
        """A well-formed generation whose tensor file holds a NaN."""
        manifest, content = self.generation(number, seed=1)
        spoilt = content[:-4] + b"\x00\x00\xc0\x7f"
        assert manifest.patch.tensor_file is not None
        digest = type(manifest.patch.tensor_file).of(spoilt)
        return self.signed(number, replace(manifest.patch, tensor_file=digest)), spoilt
