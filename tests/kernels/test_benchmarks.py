import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import cross_attention, providers
from benchmarks.cross_attention import Row, WrongResultError
from torch import Tensor

from tests.bench import kernels_gpu


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return cross_attention.run_all(device="cpu", is_quick=True)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, providers.Provider]:
    """The providers, in a table that a test may change."""
    changed = dict(providers.ANYWHERE)
    monkeypatch.setattr(providers, "ANYWHERE", changed)
    return changed


def twice(*args: object) -> tuple[Tensor, Tensor]:
    o, mass = providers.naive(*args)
    return o * 2, mass


def test_every_provider_is_measured_in_every_mode(rows: list[Row]) -> None:
    found = {(row.provider, row.mode) for row in rows}
    modes = ("forward", "backward", "full")
    assert found == {(p, m) for p in providers.ANYWHERE for m in modes}
    for row in rows:
        assert 0 < row.p20_us <= row.p50_us <= row.p80_us
        assert row.saved_mb > 0
        assert row.error_dq < 0.02
        assert row.commit


def test_rows_survive_the_file(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cross_attention.write(rows, path)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["p50_us"]) for row in read] == [row.p50_us for row in rows]
    assert {row["torch"] for row in read} == {torch.__version__}


def test_a_wrong_alternative_is_left_out(
    table: dict[str, providers.Provider], capsys: pytest.CaptureFixture[str]
) -> None:
    table["published"] = twice
    found = cross_attention.run_all(device="cpu", is_quick=True)
    assert "published" not in {row.provider for row in found}
    assert "published: left out: WrongResultError" in capsys.readouterr().err


def test_a_wrong_kernel_fails_the_run(table: dict[str, providers.Provider]) -> None:
    table["ours"] = twice
    with pytest.raises(WrongResultError):
        cross_attention.run_all(device="cpu", is_quick=True)


def test_the_figures_are_those_of_the_worst_large_layer(rows: list[Row]) -> None:
    def row(model: str, provider: str, microseconds: float, **changes: object) -> Row:
        return replace(
            rows[0],
            **{
                "model": model,
                "rows": 4096,
                "mode": "full",
                "provider": provider,
                "p50_us": microseconds,
                "floor_us": 10.0,
                **changes,
            },
        )

    measured = [
        row("a", "naive", 80),
        row("a", "augmented", 50),
        row("a", "augmented_padded", 40),
        row("a", "ours", 20),
        row("b", "naive", 75),
        row("b", "augmented", 60),
        row("b", "ours", 15),
        # None of these counts.
        row("a", "naive", 1, cache="cold"),
        row("a", "naive", 1, mode="forward"),
        row("a", "naive", 1, keys=512),
        row("a", "naive", 1, rows=1024),
    ]
    assert kernels_gpu.figures(measured) == {
        "speed_ratio_naive": 4.0,
        "speed_ratio_vaug": 2.0,
        "over_floor": 2.0,
    }
