"""What a stage says while it runs: one line every so many steps."""

import sys
import time
from collections import defaultdict


class Progress:
    """Averages figures between lines and prints them with the speed."""

    def __init__(self, stage: str, every: int = 50, *, silent: bool = False) -> None:
        self._stage, self._every, self._silent = stage, every, silent
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._since = time.monotonic()

    def note(self, step: int, total: int, **figures: float) -> None:
        """Record one step."""
        for name, value in figures.items():
            self._sums[name] += value
        self._count += 1
        if step % self._every and step != total:
            return
        elapsed = time.monotonic() - self._since
        means = " ".join(f"{k} {v / self._count:.4g}" for k, v in self._sums.items())
        self.tell(
            f"{self._stage} {step}/{total} {means}"
            f" {elapsed / self._count * 1000:.0f} ms/step"
        )
        self._sums.clear()
        self._count, self._since = 0, time.monotonic()

    def tell(self, line: str) -> None:
        """Print one line at once."""
        if not self._silent:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
