"""Published patches, generations, and how servers stand to them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from myosotis.digests import Digest
from myosotis.patches.manifest import PatchManifest


@dataclass(frozen=True, slots=True)
class PublishedPatch:
    """A patch that passed its gate. Immutable.

    Attributes:
        manifest: what it is.
        manifest_digest: address of the manifest's exact bytes.
        create_time: when it was published, UTC.
    """

    manifest: PatchManifest
    manifest_digest: Digest
    create_time: datetime

    @property
    def name(self) -> str:
        return self.manifest.name


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of a model that servers are told to serve.

    Attributes:
        model: ``models/{model}``.
        number: from 1, only grows, never reused.
        plan_digest: plan of the patch that it serves.
        policy_revision: registry revision it stands for.
        manifest_digest: address of its manifest's exact bytes.
        create_time: when it was published, UTC.
    """

    model: str
    number: int
    plan_digest: str
    policy_revision: int
    manifest_digest: Digest
    create_time: datetime

    @property
    def name(self) -> str:
        return f"{self.model}/generations/{self.number}"

    @property
    def patch(self) -> str:
        return f"{self.model}/patches/{self.plan_digest}"


class ServerState(StrEnum):
    """How a server stands to the generation that it should serve."""

    SYNCED = "SYNCED"
    STAGED = "STAGED"
    UPDATING = "UPDATING"
    NACKED_BUT_CACHED = "NACKED_BUT_CACHED"
    STALE = "STALE"
    NOT_READY = "NOT_READY"


@dataclass(frozen=True, slots=True)
class ServerRefusal:
    """The last directive that a server refused."""

    generation: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class InferenceServer:
    """An inference server as last heard.

    Attributes:
        name: ``inferenceServers/{server}``.
        model: ``models/{model}``.
        base_digest: digest of its base weights.
        active_generation: what it serves; 0 when nothing.
        staged_generation: what it has built beside that; 0 when nothing.
        tensor_root: digest of its live tensors.
        address: where its image generation service listens.
        heartbeat_time: when it was last heard, UTC.
        refusal: its last refusal; None when it activated something since.
    """

    name: str
    model: str
    base_digest: str
    heartbeat_time: datetime
    active_generation: int = 0
    staged_generation: int = 0
    tensor_root: str = ""
    address: str = ""
    refusal: ServerRefusal | None = None

    def state(self, desired: int, *, now: datetime, stale: timedelta) -> ServerState:
        """Where it stands when *desired* is the generation to serve (0: none)."""
        if now - self.heartbeat_time > stale:
            return ServerState.STALE
        if self.active_generation == 0:
            return ServerState.NOT_READY
        if self.active_generation == desired:
            return ServerState.SYNCED
        if self.refusal is not None and self.refusal.generation == desired:
            return ServerState.NACKED_BUT_CACHED
        if self.staged_generation == desired:
            return ServerState.STAGED
        return ServerState.UPDATING
