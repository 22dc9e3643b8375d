"""Contact sheets: labelled rows of pictures, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAPER = "#ffffff"
_INK = "#1c2733"
_FAINT = "#6b7885"
_RULE = "#d9dee3"


@dataclass(frozen=True, slots=True)
class SheetStyle:
    """Sizes in pixels.

    Attributes:
        edge: of a picture.
        label_width: of the column of labels.
        gap: between pictures.
        margin: around everything.
        font_size: of labels; the title is half as large again.
    """

    edge: int = 96
    label_width: int = 150
    gap: int = 6
    margin: int = 16
    font_size: int = 15


DEFAULT_STYLE = SheetStyle()


def contact_sheet(
    rows: "Sequence[tuple[str, NDArray[np.uint8]]]",
    *,
    title: str = "",
    style: SheetStyle = DEFAULT_STYLE,
) -> Image.Image:
    """A sheet with one row for each label, in order.

    Args:
        rows: label and pictures, uint8 [n, height, width, 3], RGB. The first line of a
            label is printed dark, further lines faint. A row whose first line is
            empty belongs to the one above: no rule parts them.
        title: a line above everything.
        style: sizes.

    Raises:
        ValueError: no rows, or a row without pictures.
    """
    if not rows or not all(len(pictures) for _, pictures in rows):
        raise ValueError("a contact sheet needs rows with pictures")
    step = style.edge + style.gap
    top = style.margin + (2 * style.font_size + style.gap if title else 0)
    columns = max(len(pictures) for _, pictures in rows)
    size = (
        2 * style.margin + style.label_width + columns * step - style.gap,
        top + len(rows) * step - style.gap + style.margin,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        font = ImageFont.load_default(style.font_size * 1.5)
        draw.text((style.margin, style.margin), title, _INK, font)
    for index, (label, pictures) in enumerate(rows):
        y = top + index * step
        if index and label.partition("\n")[0]:
            line = y - style.gap // 2 - 1
            draw.line((style.margin, line, size[0] - style.margin, line), _RULE)
        _write(draw, (style.margin, y), label, style)
        for column, picture in enumerate(pictures):
            x = style.margin + style.label_width + column * step
            sheet.paste(_shown(picture, style.edge), (x, y))
    return sheet


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], label: str, style: SheetStyle
) -> None:
    """The lines of *label* that fit beside its pictures, words kept whole."""
    font = ImageFont.load_default(style.font_size)
    height = round(style.font_size * 1.3)
    lines = [
        (line, _FAINT if index else _INK)
        for index, text in enumerate(label.splitlines())
        for line in _wrapped(draw, text, font, style.label_width - style.gap)
    ]
    for index, (line, colour) in enumerate(lines[: style.edge // height]):
        draw.text((place[0], place[1] + index * height), line, colour, font)


def _wrapped(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _shown(picture: "NDArray[np.uint8]", edge: int) -> Image.Image:
    """*picture* within a square of *edge*, whole."""
    image = Image.fromarray(picture)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    if max(image.size) < edge:
        scale = edge / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
    square = Image.new("RGB", (edge, edge), _PAPER)
    square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return square
