"""Real processes of the service, on free ports, ended with the demonstration."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 15


class ProcessFailedError(Exception):
    """A process ended, or did not start, when it should run."""


@asynccontextmanager
async def service(
    *arguments: str, log: Path, listens: bool = True
) -> AsyncIterator[tuple[Process, str]]:
    """Run ``myosotis`` with *arguments* while inside; gives the process and address.

    Args:
        arguments: of the command.
        log: file for its stderr.
        listens: wait for the line that names its address; it is empty otherwise.
    """
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "myosotis",
            *arguments,
            stdout=PIPE,
            stderr=errors,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
    try:
        yield process, await _address(process, arguments[0], log) if listens else ""
    finally:
        await _stop(process)


async def _address(process: Process, name: str, log: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - PIPE above
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
    except TimeoutError as error:
        raise ProcessFailedError(f"{name} did not start; see {log}") from error
    words = line.decode().split()
    if words[:2] != ["listening", "on"]:
        raise ProcessFailedError(f"{name} did not start; see {log}")
    return words[2]


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
