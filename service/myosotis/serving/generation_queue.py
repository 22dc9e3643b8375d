"""A queue of orders, drawn in batches, each batch by exactly one generation."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from myosotis.errors import (
    CapacityError,
    MyosotisError,
    PreconditionError,
    UnavailableError,
)
from myosotis.serving.orders import Event, Order, Origin, Picture, StepMade
from myosotis.serving.png import encode_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from myosotis.serving.slot import Snapshot

_log = structlog.get_logger(__name__)

# Draws orders that fit each other, uint8 [n, height, width, 3]; calls back after each
# step with the number of steps made, and ends when that raises.
Draw: TypeAlias = (
    "Callable[[Sequence[Order], Callable[[int], None]], NDArray[np.uint8]]"
)


@dataclass(eq=False)
class Ticket:
    """A place in the queue.

    Attributes:
        order: what was asked for.
        report: told each step, then the picture or why there is none. Called in the
            drawing thread; must not raise.
        cancelled: nobody waits any more; set by whoever waited.
    """

    order: Order
    report: Callable[[Event], None]
    cancelled: bool = False


class _AbandonedError(Exception):
    """Nobody waits for the batch any more."""


class GenerationQueue:
    """Takes orders from any thread; one thread runs :meth:`run` and draws them."""

    def __init__(
        self,
        *,
        pin: "Callable[[], AbstractContextManager[Snapshot]]",
        draw: Draw,
        max_batch: int = 4,
        capacity: int = 64,
    ) -> None:
        """Prepare.

        Args:
            pin: pins the snapshot that *draw* then uses.
            draw: draws a batch.
            max_batch: most pictures drawn together, at least 1.
            capacity: most orders that wait, at least 1.
        """
        self._pin = pin
        self._draw = draw
        self._max_batch = max_batch
        self._capacity = capacity
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._batch_seconds = 1.0

    def submit(self, order: Order, report: Callable[[Event], None]) -> Ticket:
        """Queue *order*.

        Raises:
            CapacityError: too many wait.
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("drawing", "the server is shutting down")
            waiting = len(self._waiting)
            if waiting >= self._capacity:
                batches = 1 + waiting / self._max_batch
                raise CapacityError(
                    f"{waiting} pictures are waiting", batches * self._batch_seconds
                )
            ticket = Ticket(order, report)
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def close(self) -> None:
        """Take no more orders; :meth:`run` returns once those that wait are drawn."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Draw until closed and empty."""
        while batch := self._next_batch():
            try:
                self._serve(batch)
            except _AbandonedError:
                continue
            except MyosotisError as error:
                _tell(batch, error)
            except Exception as error:  # noqa: BLE001 - a process loop: only the batch fails
                # As text: a renderer that prints local variables would print prompts.
                _log.error("drawing failed", traceback=traceback.format_exc())
                _tell(batch, error)

    def _next_batch(self) -> list[Ticket]:
        """The oldest order and those that fit it, oldest first; empty at the end."""
        with self._changed:
            while True:
                waiting = [t for t in self._waiting if not t.cancelled]
                if waiting or self._closed:
                    break
                self._waiting.clear()
                self._changed.wait()
            batch = [t for t in waiting if t.order.fits(waiting[0].order)]
            batch = batch[: self._max_batch]
            self._waiting = deque(t for t in waiting if t not in batch)
        return batch

    def _serve(self, batch: list[Ticket]) -> None:
        start = time.monotonic()
        with self._pin() as snapshot:
            accepted = _accepted(batch, snapshot.generation)
            if not accepted:
                return
            pictures = self._draw(
                [ticket.order for ticket in accepted],
                lambda done: _report_step(accepted, done),
            )
        seconds = self._batch_seconds = time.monotonic() - start
        for index, (ticket, pixels) in enumerate(zip(accepted, pictures, strict=True)):
            origin = Origin(
                generation=snapshot.generation,
                patch_digest=snapshot.patch_digest,
                policy_revision=snapshot.policy_revision,
                batch_size=len(accepted),
                batch_index=index,
            )
            png = encode_png(pixels, origin)
            ticket.report(Picture(png, origin, ticket.order, seconds))


def _accepted(batch: list[Ticket], generation: int) -> list[Ticket]:
    """Those that *generation* may serve; the others are told why not."""
    accepted: list[Ticket] = []
    for ticket in batch:
        if ticket.order.min_generation <= generation:
            accepted.append(ticket)
        else:
            problem = f"generation {generation} is served here, an older one than asked"
            ticket.report(PreconditionError(problem))
    return accepted


def _report_step(batch: list[Ticket], done: int) -> None:
    waiting = [ticket for ticket in batch if not ticket.cancelled]
    if not waiting:
        raise _AbandonedError
    for ticket in waiting:
        ticket.report(StepMade(done, ticket.order.step_count))


def _tell(batch: list[Ticket], error: Exception) -> None:
    for ticket in batch:
        ticket.report(error)
