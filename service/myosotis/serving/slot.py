"""The weights that an inference server serves: one immutable snapshot at a time."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from myosotis.errors import InvalidArgumentError, PatchRefusedError, UnavailableError
from myosotis.patches.fingerprint import TORCH_DTYPES, Fingerprint, base_digest
from myosotis.patches.manifest import GenerationManifest
from myosotis.patches.tensor_files import read_verified
from myosotis.patches.verification import check_root
from myosotis.patches.weights import patched_tensors
from myosotis.serving.admission import Holding, check_offer

_DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One generation, ready to be served. Nothing writes to it.

    Attributes:
        manifest: what it was built from.
        tensor_root: digest of all tensors of *unet*, as built here.
        unet: owns the tensors that the patch changed, and shares every other with the
            base. Snapshots may be used in different threads at the same time.
    """

    manifest: GenerationManifest
    tensor_root: str
    unet: nn.Module

    @property
    def generation(self) -> int:
        return self.manifest.generation

    @property
    def patch_digest(self) -> str:
        return self.manifest.patch_digest

    @property
    def policy_revision(self) -> int:
        return self.manifest.policy_revision

    @property
    def applied_tensor_count(self) -> int:
        return len(self.manifest.patch.tensors)


@dataclass(eq=False)
class _Lease:
    """The requests that a snapshot serves."""

    snapshot: Snapshot
    requests: int = 0
    replaced: Callable[[Snapshot], None] | None = None

    @property
    def over(self) -> bool:
        return self.replaced is not None and self.requests == 0


class WeightSlot:
    """Holds the pristine base weights and the snapshot that is served.

    What is served changes in one assignment. A request pins the snapshot of its first
    step and keeps it to its last. Without a snapshot nothing is served: the base
    weights are only what snapshots are computed from.

    Attributes:
        model: ``models/{model}``.
        config: of the UNet.
        dtype: of all its tensors.
        device: of all its tensors.
        ready: set once a generation is served; it is never cleared.
    """

    def __init__(
        self,
        model: str,
        unet: nn.Module,
        *,
        pristine: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take over *unet*; from now on nobody else may write to it or move it.

        Args:
            model: ``models/{model}``.
            unet: holds the base weights, all in one element type on one device.
            pristine: the base weights as the model's makers published them, where
                *unet* holds them rounded to a smaller type; only read.

        Raises:
            InvalidArgumentError: the weights have several types, or one that no
                generation is made for.
        """
        state = {name: tensor.detach() for name, tensor in unet.state_dict().items()}
        first = next(iter(state.values()))
        if {tensor.dtype for tensor in state.values()} != {first.dtype}:
            raise InvalidArgumentError("unet", "holds tensors of several types")
        if first.dtype not in _DTYPE_NAMES:
            raise InvalidArgumentError("unet", f"{first.dtype} is not supported")
        self.model = model
        self.config: Any = getattr(unet, "config", None)
        self.dtype: torch.dtype = first.dtype
        self.device: torch.device = first.device
        self._unet = unet
        self._pristine = state if pristine is None else dict(pristine)
        self._held = Fingerprint.of(state, _DTYPE_NAMES[first.dtype])
        self._base_digest = base_digest(self._pristine)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        self.ready = threading.Event()
        self._lock = threading.Lock()
        self._lease: _Lease | None = None

    @property
    def active(self) -> Snapshot | None:
        """What the next request is served by."""
        lease = self._lease
        return lease.snapshot if lease is not None else None

    def holding(self, staged: Snapshot | None = None) -> Holding:
        """What this server holds, *staged* beside what is served."""
        active = self.active
        return Holding(
            model=self.model,
            base_digest=self._base_digest,
            shapes=self._shapes,
            dtype=self._held.dtype,
            active_generation=active.generation if active else 0,
            staged_generation=staged.generation if staged else 0,
        )

    def stage(self, manifest: GenerationManifest, content: bytes) -> Snapshot:
        """Verify a generation and build it; no request notices.

        Args:
            manifest: of the generation.
            content: the tensor file; empty where the manifest names none.

        Raises:
            PatchRefusedError: for the first thing that is not as it has to be.
        """
        check_offer(manifest.generation, manifest, self.holding())
        tensors = read_verified(content, manifest.patch, self._shapes)
        changed = {
            name: tensor.to(self.device, self.dtype)
            for name, tensor in patched_tensors(
                self._pristine, manifest.patch, tensors
            ).items()
        }
        unet = _sharing_copy(self._unet, changed)
        root = self._root(unet)
        check_root(manifest.patch, dtype=self._held.dtype, root=root)
        return Snapshot(manifest, root, unet)

    def check_unchanged(self, snapshot: Snapshot) -> None:
        """Hash again what *snapshot* owns, and see that the rest is the base's.

        Raises:
            PatchRefusedError: WRONG_TENSOR_ROOT, when it is no longer what was staged.
        """
        root = self._root(snapshot.unet)
        if root != snapshot.tensor_root:
            raise PatchRefusedError(
                "WRONG_TENSOR_ROOT",
                f"staged {snapshot.tensor_root[:12]}, now {root[:12]}",
            )

    def _root(self, unet: nn.Module) -> str:
        """Digest of the tensors that *unet* computes with, read from memory.

        Tensors in the base's own memory keep the leaf that was computed when the base
        was taken over; all others are hashed.
        """
        base = self._unet.state_dict()
        own = {
            name: tensor
            for name, tensor in unet.state_dict().items()
            if tensor.data_ptr() != base[name].data_ptr()
        }
        return self._held.with_tensors(own).root

    def commit(
        self, snapshot: Snapshot, *, retired: Callable[[Snapshot], None]
    ) -> None:
        """Serve *snapshot* from the next request on.

        Args:
            snapshot: staged here.
            retired: called once with the snapshot that was served before, in the
                thread that ended its last request; never when there was none. It
                must not raise.
        """
        lease = _Lease(snapshot)
        with self._lock:
            previous, self._lease = self._lease, lease
            if previous is not None:
                previous.replaced = retired
            idle = previous is not None and previous.over
        self.ready.set()
        if idle and previous is not None:
            retired(previous.snapshot)

    @contextmanager
    def pin(self) -> Iterator[Snapshot]:
        """The snapshot that is active now, kept as it is until the block ends.

        Raises:
            UnavailableError: no generation is active.
        """
        with self._lock:
            lease = self._lease
            if lease is None:
                raise UnavailableError(self.model, "no generation is active here yet")
            lease.requests += 1
        try:
            yield lease.snapshot
        finally:
            with self._lock:
                lease.requests -= 1
                over = lease.over
            if over and lease.replaced is not None:
                lease.replaced(lease.snapshot)


def _sharing_copy(unet: nn.Module, changed: Mapping[str, Tensor]) -> nn.Module:
    """A module of its own that holds *changed*, and *unet*'s own tensors otherwise."""
    known: dict[int, object] = {}
    for name, parameter in unet.named_parameters():
        known[id(parameter)] = (
            nn.Parameter(changed[name], requires_grad=False)
            if name in changed
            else parameter
        )
    for name, buffer in unet.named_buffers():
        known[id(buffer)] = changed.get(name, buffer)
    # What is in the memo is not copied, only referred to.
    return copy.deepcopy(unet, known)
