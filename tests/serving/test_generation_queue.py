import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from myosotis.errors import CapacityError, PreconditionError, UnavailableError
from myosotis.serving.generation_queue import GenerationQueue
from myosotis.serving.orders import Event, Order, Picture, StepMade
from myosotis.serving.slot import Snapshot, WeightSlot

from tests.serving.generations import Forge

if TYPE_CHECKING:
    from numpy.typing import NDArray


def an_order(prompt: str = "a dog", **fields: int) -> Order:
    given = {"seed": 0, "step_count": 3, "guidance_scale": 2, **fields}
    return Order(prompt, **given)


@dataclass
class Studio:
    """Draws grey pictures; what it drew, and by which generation."""

    slot: WeightSlot
    batches: list[list[str]] = field(default_factory=list)
    at_step: Callable[[int], None] = lambda _: None

    def draw(
        self, orders: Sequence[Order], on_step: Callable[[int], None]
    ) -> "NDArray[np.uint8]":
        self.batches.append([order.prompt for order in orders])
        for step in range(1, orders[0].step_count + 1):
            self.at_step(step)
            on_step(step)
        return np.zeros((len(orders), 8, 8, 3), np.uint8)

    def queue(self, *, max_batch: int = 4, capacity: int = 64) -> GenerationQueue:
        return GenerationQueue(
            pin=self.slot.pin,
            draw=self.draw,
            max_batch=max_batch,
            capacity=capacity,
        )


@pytest.fixture
def studio(slot: WeightSlot, forge: Forge) -> Studio:
    slot.commit(slot.stage(*forge.generation(3)), retired=lambda _: None)
    return Studio(slot)


def drawn(queue: GenerationQueue, *orders: Order) -> list[list[Event]]:
    """What is reported for each of *orders*, which wait before drawing starts."""
    events: list[list[Event]] = [[] for _ in orders]
    for order, told in zip(orders, events, strict=True):
        queue.submit(order, told.append)
    queue.close()
    queue.run()
    return events


def test_an_order_is_told_each_step_and_then_its_picture(studio: Studio) -> None:
    (events,) = drawn(studio.queue(), an_order())
    assert events[:-1] == [StepMade(n, 3) for n in (1, 2, 3)]
    picture = events[-1]
    assert isinstance(picture, Picture)
    assert picture.origin.generation == 3
    assert (picture.origin.batch_size, picture.origin.batch_index) == (1, 0)
    assert picture.png.startswith(b"\x89PNG")


def test_orders_of_equal_steps_and_guidance_are_drawn_together_in_order(
    studio: Studio,
) -> None:
    orders = [
        an_order("a"),
        an_order("b", step_count=2),
        an_order("c"),
        an_order("d", guidance_scale=5),
        an_order("e"),
        an_order("f"),
    ]
    drawn(studio.queue(max_batch=3), *orders)
    assert studio.batches == [["a", "c", "e"], ["b"], ["d"], ["f"]]


def test_a_full_queue_refuses_and_says_when_to_come_back(studio: Studio) -> None:
    queue = studio.queue(capacity=2)
    told: list[Event] = []
    for _ in range(2):
        queue.submit(an_order(), told.append)
    with pytest.raises(CapacityError) as refused:
        queue.submit(an_order(), told.append)
    assert refused.value.retry_after_seconds > 0


def test_a_closed_queue_draws_what_waits_and_takes_no_more(studio: Studio) -> None:
    queue = studio.queue()
    (events,) = drawn(queue, an_order())
    assert isinstance(events[-1], Picture)
    with pytest.raises(UnavailableError):
        queue.submit(an_order(), events.append)


def test_an_order_for_a_newer_generation_is_refused_alone(studio: Studio) -> None:
    newer, fine = drawn(
        studio.queue(), an_order(min_generation=4), an_order(min_generation=3)
    )
    assert [type(event) for event in newer] == [PreconditionError]
    assert isinstance(fine[-1], Picture)
    assert fine[-1].origin.batch_size == 1


def test_without_a_generation_nothing_is_drawn(slot: WeightSlot) -> None:
    studio = Studio(slot)
    (events,) = drawn(studio.queue(), an_order())
    assert [type(event) for event in events] == [UnavailableError]
    assert studio.batches == []


def test_a_batch_that_fails_does_not_end_the_others(studio: Studio) -> None:
    def fail(_step: int) -> None:
        studio.at_step = lambda _: None
        raise ZeroDivisionError

    studio.at_step = fail
    first, second = drawn(studio.queue(max_batch=1), an_order(), an_order())
    assert [type(event) for event in first] == [ZeroDivisionError]
    assert isinstance(second[-1], Picture)


def test_a_batch_that_nobody_waits_for_ends_at_its_next_step(studio: Studio) -> None:
    queue = studio.queue()
    told: list[Event] = []
    ticket = queue.submit(an_order(), told.append)

    def leave(step: int) -> None:
        ticket.cancelled = step >= 2

    studio.at_step = leave
    queue.close()
    queue.run()
    assert told == [StepMade(1, 3)]


def test_an_order_that_nobody_waits_for_is_not_drawn(studio: Studio) -> None:
    queue = studio.queue()
    told: list[Event] = []
    queue.submit(an_order("left"), told.append).cancelled = True
    drawn(queue, an_order("stayed"))
    assert told == []
    assert studio.batches == [["stayed"]]


def test_a_swap_while_a_batch_is_drawn_does_not_touch_it(
    studio: Studio, slot: WeightSlot, forge: Forge
) -> None:
    pinned: list[Snapshot] = []

    @contextmanager
    def pin() -> Iterator[Snapshot]:
        with slot.pin() as snapshot:
            pinned.append(snapshot)
            yield snapshot

    def swap(step: int) -> None:
        if step == 2:
            number = slot.holding().active_generation + 1
            staged = slot.stage(*forge.generation(number))
            slot.commit(staged, retired=lambda _: None)

    studio.at_step = swap
    queue = GenerationQueue(pin=pin, draw=studio.draw, max_batch=1)
    events = drawn(queue, an_order(), an_order())
    pictures = [told[-1] for told in events]
    named = [p.origin.generation for p in pictures if isinstance(p, Picture)]
    assert named == [3, 4] == [snapshot.generation for snapshot in pinned]


def test_orders_may_come_from_other_threads_while_one_draws(studio: Studio) -> None:
    queue = studio.queue()
    drawing = threading.Thread(target=queue.run)
    drawing.start()
    done = threading.Semaphore(0)

    def told(event: Event) -> None:
        if isinstance(event, Picture):
            done.release()

    for _ in range(5):
        queue.submit(an_order(), told)
        assert done.acquire(timeout=10)
    queue.close()
    drawing.join(timeout=10)
    assert not drawing.is_alive()
