"""Stopping long work on request."""

from collections.abc import Callable

Cancelled = Callable[[], bool]
"""Whether the work is to stop; asked between steps, so it has to be quick."""


class CancelledWorkError(Exception):
    """The work stopped because it was asked to; nothing of it is kept."""


def stop_if(cancelled: Cancelled) -> None:
    """Raise :class:`CancelledWorkError` when the work is to stop."""
    if cancelled():
        raise CancelledWorkError
