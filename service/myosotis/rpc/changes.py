"""Wakes whoever waits for something to change. Lives on one event loop."""

import asyncio


class Changes:
    """A bell that any thread may ring and any task may wait for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Wake everybody who waits now; from any thread."""
        self._loop.call_soon_threadsafe(self._ring)

    def upcoming(self) -> asyncio.Event:
        """Set at the next announcement. Take it before looking at the state."""
        return self._next

    def _ring(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()


async def settled(event: asyncio.Event, *, seconds: float) -> bool:
    """Wait for *event* at most so long; whether it came."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
