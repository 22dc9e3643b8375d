import json
import math
from pathlib import Path

import pytest
import torch

from tests.bench.record import write_figures


def test_a_record_has_the_agreed_form(tmp_path: Path) -> None:
    path = write_figures(
        "speed",
        {"ratio": 1.5, "ratio_low": 1, "is_equal": True},
        packages=("torch",),
        threads=1,
        folder=tmp_path / "new",
    )
    assert path == tmp_path / "new" / "speed.json"
    record = json.loads(path.read_text())
    assert set(record) == {"name", "device", "threads", "versions", "figures"}
    assert record["name"] == "speed"
    assert record["figures"] == {"ratio": 1.5, "ratio_low": 1, "is_equal": 1}
    assert "true" not in path.read_text()
    assert record["threads"] == 1
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"]


@pytest.mark.parametrize("value", [math.nan, math.inf, "fast", None])
def test_what_is_not_a_finite_number_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ratio"):
        write_figures("speed", {"ratio": value}, folder=tmp_path)
    assert not list(tmp_path.iterdir())
