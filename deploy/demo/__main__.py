"""`make demo`: the whole loop on Petal, with real processes, shown and measured."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from deploy.demo.figures import broken_promises
from deploy.demo.story import Story

_THREADS = max(1, os.cpu_count() or 1)


def main() -> None:
    """Run it; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    out: Path = parser.parse_args().out
    began = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    console = Console(width=None if sys.stdout.isatty() else 100)
    story = Story(out, console=console, threads=_THREADS)
    asyncio.run(story.tell())
    figures = story.finish(began)
    (out / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
    for key, value in figures.items():
        console.print(f"{key:>24}  {value:g}", highlight=False)
    console.print(f"see {out / 'report.html'} and {out / 'summary.json'}")
    broken = broken_promises(figures)
    for promise in broken:
        console.print(f"broken promise: {promise}", style="red", highlight=False)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
