"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from myosotis.unlearning.runs import RunProgress

OnProgress = Callable[[RunProgress], None]

_LINE_SECONDS = 2.0


@contextmanager
def progress(console: Console) -> Iterator[OnProgress]:
    """Show what the given function is told, on *console*, until the block ends.

    Args:
        console: of stderr, so that stdout carries results alone.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _bar(bars)


def _bar(bars: Progress) -> OnProgress:
    task = bars.add_task("")
    phase = ""

    def show(told: RunProgress) -> None:
        nonlocal phase
        if told.phase != phase:
            bars.reset(task)
            phase = told.phase
        total = told.total_steps or None
        bars.update(
            task, description=told.phase, completed=told.done_steps, total=total
        )

    return show


def _lines(console: Console) -> OnProgress:
    """A line at most every two seconds, the first one after that time."""
    due = time.monotonic() + _LINE_SECONDS

    def show(told: RunProgress) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + _LINE_SECONDS
        of = f" of {told.total_steps}" if told.total_steps else ""
        console.print(
            f"{told.phase}: {told.done_steps}{of}", markup=False, highlight=False
        )

    return show
