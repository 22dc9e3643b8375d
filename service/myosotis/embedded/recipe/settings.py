"""Where the recipe keeps its work, and how long each stage trains."""

from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_CACHE = Path("~/.cache/myosotis/petal").expanduser()


@dataclass(frozen=True, slots=True)
class Settings:
    """One run of the recipe. Lengths are in steps, never in time."""

    cache: Path = field(default=DEFAULT_CACHE)
    seed: int = 0

    @property
    def npm(self) -> Path:
        """The fetched packages."""
        return self.cache / "npm"

    @property
    def rasters(self) -> Path:
        """The rasterised icons, one array per source."""
        return self.cache / "rasters"

    @property
    def checkpoints(self) -> Path:
        """Training states, one folder per stage."""
        return self.cache / "checkpoints"

    @property
    def pipeline(self) -> Path:
        """The parts of the pipeline as they become ready."""
        return self.cache / "parts"

    @property
    def staged(self) -> Path:
        """What `export` writes: the folder that is to be packaged."""
        return self.cache / "staged"
