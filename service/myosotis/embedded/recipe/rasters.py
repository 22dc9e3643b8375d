"""Icons as RGBA arrays of 128 x 128, from every source that has them."""

import io
import json
from collections.abc import Iterable
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.embedded.recipe.artwork import (
    Artwork,
    locked,
    read_member,
    read_pictures,
)

SIDE = 128
Raster = NDArray[np.uint8]


def rasterise(npm: Path, rasters: Path, processes: int = 2) -> dict[str, int]:
    """Draw every icon of every source; return how many each source gave."""
    rasters.mkdir(parents=True, exist_ok=True)
    code_points = _code_points(npm)
    counts = {}
    for artwork in locked():
        jobs = _jobs(artwork, npm, code_points)
        with Pool(processes) as pool:
            drawn = pool.map(_draw, jobs, chunksize=64)
        kept = {name: raster for name, raster in drawn if raster is not None}
        np.save(rasters / f"{artwork.source}.npy", np.stack(list(kept.values())))
        names = json.dumps(list(kept))
        (rasters / f"{artwork.source}.json").write_text(names)
        counts[artwork.source] = len(kept)
    return counts


class Rasters:
    """The drawn icons of one source, by name."""

    def __init__(self, folder: Path, source: str) -> None:
        self.source = source
        self._rasters: Raster = np.load(folder / f"{source}.npy", mmap_mode="r")
        names: list[str] = json.loads((folder / f"{source}.json").read_text())
        self._rows = {name: row for row, name in enumerate(names)}

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> Raster:
        return np.array(self._rasters[self._rows[name]])

    @property
    def names(self) -> tuple[str, ...]:
        """Every icon that the source has."""
        return tuple(self._rows)


def shared_names(sources: Iterable[Rasters]) -> list[str]:
    """The icons that every source has."""
    common = [set(source.names) for source in sources]
    return sorted(set.intersection(*common))


def _code_points(npm: Path) -> dict[str, list[str]]:
    """Code points by icon name: bitmap packages name their files by them."""
    noto = next(artwork for artwork in locked() if artwork.source == "noto")
    by_name: dict[str, list[str]] = {}
    for points, name in json.loads(read_member(noto, npm, "chars.json")).items():
        by_name.setdefault(name, []).append(points.replace("-fe0f", ""))
    return by_name


def _jobs(
    artwork: Artwork, npm: Path, code_points: dict[str, list[str]]
) -> list[tuple[str, str | bytes]]:
    if artwork.source == "fluent":
        pictures = read_pictures(artwork, npm)
        return [
            (name, pictures[point])
            for name, points in code_points.items()
            for point in points[:1]
            if point in pictures and _wanted(name)
        ]
    icons = json.loads(read_member(artwork, npm, "icons.json"))
    names = [*icons["icons"], *icons.get("aliases", {})]
    return [(name, _svg(icons, name)) for name in names if _wanted(name)]


def _wanted(name: str) -> bool:
    return "skin-tone" not in name and not name.startswith("flag-")


def _svg(icons: dict[str, Any], name: str) -> str:
    alias = icons.get("aliases", {}).get(name, {})
    icon = (
        {**icons["icons"][alias["parent"]], **alias} if alias else icons["icons"][name]
    )
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{SIDE}" height="{SIDE}" viewBox="{box}" color="black">'
        f"{icon['body']}</svg>"
    )


def _draw(job: tuple[str, str | bytes]) -> tuple[str, Raster | None]:
    import resvg_py  # noqa: PLC0415  (needed in this stage only)
    from PIL import Image  # noqa: PLC0415

    name, drawing = job
    if isinstance(drawing, str):
        try:
            drawing = bytes(
                resvg_py.svg_to_bytes(svg_string=drawing, width=SIDE, height=SIDE)
            )
        except ValueError:
            return name, None
    picture = Image.open(io.BytesIO(drawing)).convert("RGBa")
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return name, np.array(picture.convert("RGBA"))
