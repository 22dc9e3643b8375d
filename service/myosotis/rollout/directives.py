"""What to tell an inference server next. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from myosotis.rollout.generations import InferenceServer, ServerRefusal


@dataclass(frozen=True, slots=True)
class OfferGeneration:
    """Fetch, verify and build it, beside what is served."""

    generation: int


@dataclass(frozen=True, slots=True)
class ActivateGeneration:
    """Serve it from the next request on."""

    generation: int


def next_directive(
    server: InferenceServer, desired: int
) -> OfferGeneration | ActivateGeneration | None:
    """What *server* should do to reach *desired* (0: nothing is published).

    A generation that the server refused is not offered to it again: the next one will
    be. A server never goes back to an older number.
    """
    if desired == 0 or server.active_generation >= desired:
        return None
    if server.refusal is not None and server.refusal.generation == desired:
        return None
    if server.staged_generation == desired:
        return ActivateGeneration(desired)
    return OfferGeneration(desired)


def staged(
    server: InferenceServer, generation: int, *, now: datetime
) -> InferenceServer:
    """*server* after it acknowledged STAGED."""
    return replace(server, staged_generation=generation, heartbeat_time=now)


def activated(
    server: InferenceServer, generation: int, tensor_root: str, *, now: datetime
) -> InferenceServer:
    """*server* after it acknowledged ACTIVE."""
    return replace(
        server,
        active_generation=generation,
        staged_generation=0,
        tensor_root=tensor_root,
        refusal=None,
        heartbeat_time=now,
    )


def refused(
    server: InferenceServer, refusal: ServerRefusal, *, now: datetime
) -> InferenceServer:
    """*server* after it refused a directive; what it serves has not changed."""
    return replace(server, staged_generation=0, refusal=refusal, heartbeat_time=now)
