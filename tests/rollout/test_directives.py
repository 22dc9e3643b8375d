"""What a server is told next."""

from datetime import UTC, datetime, timedelta

import pytest
from myosotis.rollout.directives import (
    ActivateGeneration,
    OfferGeneration,
    activated,
    next_directive,
    refused,
    staged,
)
from myosotis.rollout.generations import InferenceServer, ServerRefusal, ServerState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = timedelta(seconds=15)


def a_server(active: int = 0, **more: object) -> InferenceServer:
    return InferenceServer(
        "inferenceServers/a",
        "models/petal",
        "b" * 64,
        NOW,
        active_generation=active,
        **more,
    )


def test_a_generation_is_offered_then_activated_then_left() -> None:
    server = a_server()
    assert next_directive(server, 2) == OfferGeneration(2)
    server = staged(server, 2, now=NOW)
    assert next_directive(server, 2) == ActivateGeneration(2)
    server = activated(server, 2, "r" * 64, now=NOW)
    assert next_directive(server, 2) is None


def test_a_newer_generation_overtakes_a_staged_one() -> None:
    server = staged(a_server(1), 2, now=NOW)
    assert next_directive(server, 3) == OfferGeneration(3)


def test_a_refused_generation_is_not_offered_again() -> None:
    refusal = ServerRefusal(2, "NOT_FINITE", "")
    server = refused(a_server(1), refusal, now=NOW)
    assert next_directive(server, 2) is None
    assert next_directive(server, 3) == OfferGeneration(3)


@pytest.mark.parametrize("desired", [0, 1, 2])
def test_a_server_is_never_told_to_go_back(desired: int) -> None:
    assert next_directive(a_server(2), desired) is None


@pytest.mark.parametrize(
    ("server", "state"),
    [
        (a_server(), ServerState.NOT_READY),
        (a_server(2), ServerState.SYNCED),
        (a_server(1), ServerState.UPDATING),
        (a_server(1, staged_generation=2), ServerState.STAGED),
        (
            a_server(1, refusal=ServerRefusal(2, "WRONG_BASE", "")),
            ServerState.NACKED_BUT_CACHED,
        ),
        (a_server(1, refusal=ServerRefusal(1, "WRONG_BASE", "")), ServerState.UPDATING),
    ],
)
def test_how_a_server_stands(server: InferenceServer, state: ServerState) -> None:
    assert server.state(2, now=NOW, stale=LONG) is state


def test_a_silent_server_is_stale_whatever_it_said_last() -> None:
    later = NOW + LONG + timedelta(seconds=1)
    assert a_server(2).state(2, now=later, stale=LONG) is ServerState.STALE
