"""Watches the policy folder."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from myosotis.errors import UnavailableError
from myosotis.policy.files import (
    PolicyFolder,
    is_policy_file_name,
    read_policy_folder,
)

# Changes that come together are one; the first waits at most so long.
DEBOUNCE_MILLISECONDS = 100
_STEP_MILLISECONDS = 20
_POLL_MILLISECONDS = 100

# So often the files are looked at though nothing was reported: network folders report
# nothing, and a folder that was replaced is silent.
_GLANCE_MILLISECONDS = 200
_MISSING_SECONDS = 0.25

_Stamp = frozenset[tuple[str, int, int, int, int]]


async def watch_policy_folder(
    folder: Path, *, force_polling: bool = False
) -> AsyncGenerator[PolicyFolder | UnavailableError]:
    """What *folder* says: at once, and then each time that it says something else.

    A folder that is missing or cannot be read gives an error, which says nothing about
    its policies; it is watched for all the same.

    Args:
        folder: the folder; its subfolders are left alone.
        force_polling: looks every 100 ms and needs no notifications of the system;
            that is what happens too where the system has no more to give.
    """
    said: PolicyFolder | UnavailableError | None = None
    async with aclosing(_occasions(folder, polling=force_polling)) as occasions:
        async for _ in occasions:
            says = await asyncio.to_thread(_look, folder)
            if says != said:
                said = says
                yield says


async def _occasions(folder: Path, *, polling: bool) -> AsyncGenerator[None]:
    """At once, and then whenever *folder* may have changed."""
    last = await asyncio.to_thread(_stamp, folder)
    yield
    while True:
        try:
            async with aclosing(_batches(folder, polling=polling)) as batches:
                async for reported in batches:
                    stamp = await asyncio.to_thread(_stamp, folder)
                    missed = stamp != last and not reported
                    last = stamp
                    if reported or missed:
                        yield
                    if missed:
                        break  # this watch is deaf; begin another one
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            await asyncio.sleep(_MISSING_SECONDS)
        except (OSError, RuntimeError):
            # The system has no more watches to give; watchfiles says so by either.
            polling = True
        last = await asyncio.to_thread(_stamp, folder)
        yield


async def _batches(folder: Path, *, polling: bool) -> AsyncGenerator[bool]:
    """True after changes, False after a while without any."""
    changes = awatch(
        folder,
        watch_filter=None,
        debounce=DEBOUNCE_MILLISECONDS,
        step=_STEP_MILLISECONDS,
        rust_timeout=_GLANCE_MILLISECONDS,
        yield_on_timeout=True,
        force_polling=polling,
        poll_delay_ms=_POLL_MILLISECONDS,
        recursive=False,
    )
    async with aclosing(changes):
        async for batch in changes:
            yield bool(batch)


def _look(folder: Path) -> PolicyFolder | UnavailableError:
    try:
        return read_policy_folder(folder)
    except UnavailableError as error:
        return error


def _stamp(folder: Path) -> _Stamp | None:
    """Changes when a file does; None while the folder cannot be read."""
    try:
        stats = [
            (path.name, path.stat())
            for path in folder.iterdir()
            if is_policy_file_name(path.name) and path.exists()
        ]
    except OSError:
        return None
    return frozenset(
        (name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for name, stat in stats
    )
