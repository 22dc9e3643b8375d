"""Manifests: what a patch and a generation are, bound to digests.

Both are JSON. They are hashed, stored and later signed as exact bytes; whoever receives
one keeps the bytes and never writes them again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Self, TypeVar

from myosotis import records
from myosotis.digests import Digest, canonical_json
from myosotis.errors import InvalidArgumentError, PatchRefusedError
from myosotis.validation.gate import GateResult
from myosotis.validation.measurements import Measurement

T = TypeVar("T")

GENERATION_MEDIA_TYPE = "application/vnd.myosotis.generation.v1+json"

# Element types in which a server may hold a model.
ROOT_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class PatchedTensor:
    """How one tensor of the UNet is changed.

    Attributes:
        name: its name in the UNet's state dict.
        shape: its shape.
        form: ``low_rank``: W + up @ down, or ``dense``: replaced.
        keys: of the tensor file: (up, down) or (dense,).
        rank: columns of ``up``; 0 when dense.
    """

    name: str
    shape: tuple[int, ...]
    form: str
    keys: tuple[str, ...]
    rank: int = 0


@dataclass(frozen=True, slots=True)
class PatchManifest:
    """What a patch was made for, from what, and what was measured.

    Attributes:
        model: ``models/{model}``.
        base_digest: digest of the base UNet's tensors (:mod:`.fingerprint`).
        plan_digest: digest of the erasure plan.
        policy_revision: registry revision that asked for it.
        concepts: resource names of the concepts it removes, sorted.
        methods: method of each concept, by concept name.
        tensor_roots: digest of the patched UNet's tensors for each element type in
            which a server may hold them, by name of :data:`ROOT_DTYPES`.
        tensor_file: the safetensors file; None when no tensor changes.
        tensors: how each changed tensor is changed, sorted by name.
        measurements: before and after.
        gate_results: why it may be rolled out.
        unlearning_run: the run that made it; empty when made by hand.
    """

    model: str
    base_digest: str
    plan_digest: str
    policy_revision: int
    concepts: tuple[str, ...]
    methods: Mapping[str, str]
    tensor_roots: Mapping[str, str]
    tensor_file: Digest | None = None
    tensors: tuple[PatchedTensor, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    gate_results: tuple[GateResult, ...] = ()
    unlearning_run: str = ""
    created_at: str = ""
    schema: Literal["myosotis.patch/1"] = "myosotis.patch/1"

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a manifest.

        Raises:
            PatchRefusedError: MALFORMED_MANIFEST, naming the field.
        """
        return _read(cls, content)

    @property
    def name(self) -> str:
        return f"{self.model}/patches/{self.plan_digest}"


@dataclass(frozen=True, slots=True)
class GenerationManifest:
    """One whole state of a model: what a server is told to serve.

    Attributes:
        model: ``models/{model}``.
        generation: number, from 1, only grows.
        policy_revision: registry revision it stands for.
        patch_digest: SHA-256 of the patch manifest's exact bytes.
        patch: the patch manifest itself.
        previous: generation before it; 0 when it is the first.
        created_at: ISO 8601, UTC.
    """

    model: str
    generation: int
    policy_revision: int
    patch_digest: str
    patch: PatchManifest
    previous: int = 0
    created_at: str = ""
    schema: Literal["myosotis.generation/1"] = "myosotis.generation/1"

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a manifest.

        Raises:
            PatchRefusedError: MALFORMED_MANIFEST, naming the field.
        """
        return _read(cls, content)

    @property
    def name(self) -> str:
        return f"{self.model}/generations/{self.generation}"


def _read(kind: type[T], content: bytes) -> T:
    try:
        manifest = records.from_json(kind, content)
    except InvalidArgumentError as error:
        raise PatchRefusedError("MALFORMED_MANIFEST", str(error)) from error
    return manifest
