import numpy as np
import pytest
from myosotis.validation.sheets import SheetStyle, contact_sheet
from numpy.typing import NDArray


def test_a_sheet_has_a_row_for_each_label() -> None:
    style = SheetStyle(edge=20, label_width=50, gap=2, margin=5, font_size=8)
    red = np.zeros((3, 8, 16, 3), np.uint8)
    red[..., 0] = 255
    sheet = contact_sheet([("before", red), ("\nafter", red[:1])], style=style)
    assert sheet.size == (5 + 50 + 3 * 22 - 2 + 5, 5 + 2 * 22 - 2 + 5)
    assert sheet.getpixel((55 + 10, 5 + 10)) == (255, 0, 0)
    assert sheet.getpixel((55 + 44 + 10, 5 + 22 + 10)) == (255, 255, 255)


@pytest.mark.parametrize("rows", [[], [("a", np.zeros((0, 8, 8, 3), np.uint8))]])
def test_a_sheet_of_nothing_is_refused(
    rows: list[tuple[str, NDArray[np.uint8]]],
) -> None:
    with pytest.raises(ValueError, match="rows with pictures"):
        contact_sheet(rows)
