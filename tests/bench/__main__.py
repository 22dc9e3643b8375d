"""Run benchmarks: `python -m tests.bench NAME`, or `all`."""

import subprocess
import sys
from pathlib import Path

_NO_BENCHMARK = {"__init__", "__main__", "record"}


def main() -> None:
    """Run the named benchmark, or all of them one after the other."""
    names = sorted({p.stem for p in Path(__file__).parent.glob("*.py")} - _NO_BENCHMARK)
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    if wanted != "all" and wanted not in names:
        sys.exit(f"error: no benchmark {wanted}; there are {', '.join(names)}")
    for name in names if wanted == "all" else [wanted]:
        print(f"running {name}", flush=True)  # noqa: T201 - for people
        subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=True)


if __name__ == "__main__":
    main()
