"""Writes the figures of a benchmark to `build/bench/<name>.json`.

The form is `{"name", "device", "threads", "versions", "figures"}`; each figure is a
plain number, an interval is a pair of figures `<key>_low` and `<key>_high`, a yes or no
is 1 or 0.
"""

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

FOLDER = Path("build/bench")


def write_figures(  # noqa: PLR0913
    name: str,
    figures: Mapping[str, float],
    *,
    packages: Iterable[str] = (),
    device: str | None = None,
    threads: int | None = None,
    folder: Path = FOLDER,
) -> Path:
    """Write the figures of one benchmark and return the file.

    Args:
        name: The benchmark, and the name of the file.
        figures: Finite numbers by key.
        packages: Distributions whose versions matter; Python's is always recorded.
        device: What it ran on; by default this machine's processor.
        threads: Threads that did the work; by default as many as this process may use.
        folder: Where the file goes; created if absent.

    Raises:
        ValueError: A figure is not a finite number.
    """
    for key, value in figures.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key} is {value!r}, not a finite number")
    record = {
        "name": name,
        "device": device or processor(),
        "threads": threads or len(os.sched_getaffinity(0)),
        "versions": versions(packages),
        "figures": {key: figures[key] + 0 for key in figures},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return installed versions by distribution name, Python's first.

    Raises:
        importlib.metadata.PackageNotFoundError: One is not installed.
    """
    found = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def processor() -> str:
    """Return the processor's name as the kernel reports it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
