"""The icon packages: fetched by npm at a fixed version, checked against the lock."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


class ArtworkError(Exception):
    """An icon package is missing or is not the one in the lock."""


@dataclass(frozen=True, slots=True)
class Artwork:
    """One package of icons, as the lock names it."""

    source: str
    role: str
    package: str
    version: str
    license: str
    attribution: str
    integrity: str

    @property
    def archive_name(self) -> str:
        """The file name that npm gives to the package."""
        stem = self.package.removeprefix("@").replace("/", "-")
        return f"{stem}-{self.version}.tgz"


def locked() -> tuple[Artwork, ...]:
    """Every package that the recipe may use."""
    text = files("myosotis.embedded.recipe").joinpath("artwork.lock.json").read_text()
    return tuple(Artwork(**entry) for entry in json.loads(text)["packages"])


def fetch(folder: Path) -> Iterator[Artwork]:
    """Bring every locked package into *folder* and yield it once it is verified."""
    folder.mkdir(parents=True, exist_ok=True)
    for artwork in locked():
        if not (folder / artwork.archive_name).exists():
            _pack(artwork, folder)
        verify(artwork, folder)
        yield artwork


def verify(artwork: Artwork, folder: Path) -> None:
    """Raise ArtworkError unless the archive has the checksum of the lock."""
    algorithm, _, wanted = artwork.integrity.partition("-")
    data = (folder / artwork.archive_name).read_bytes()
    found = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    if found != wanted:
        raise ArtworkError(f"{artwork.archive_name}: checksum differs from the lock")


def read_member(artwork: Artwork, folder: Path, member: str) -> bytes:
    """The content of one file of the package."""
    with tarfile.open(folder / artwork.archive_name) as archive:
        stream = archive.extractfile(f"package/{member}")
        if stream is None:
            raise ArtworkError(f"{artwork.archive_name}: no {member}")
        return stream.read()


def read_pictures(artwork: Artwork, folder: Path) -> dict[str, bytes]:
    """The pictures in a package that holds bitmaps, by their code points."""
    pictures = {}
    with tarfile.open(folder / artwork.archive_name) as archive:
        for member in archive:
            path = Path(member.name)
            if path.suffix not in {".png", ".webp"}:
                continue
            stream = archive.extractfile(member)
            if stream is not None:
                pictures[path.stem.replace("-fe0f", "")] = stream.read()
    return pictures


def _pack(artwork: Artwork, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ArtworkError("npm is needed to fetch the icons")
    command = [npm, "pack", f"{artwork.package}@{artwork.version}", "--silent"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603
