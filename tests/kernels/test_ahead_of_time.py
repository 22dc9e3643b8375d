"""Each kernel compiled for each architecture, without a GPU."""

import csv
from pathlib import Path

import pytest
import torch
from myosotis_kernels.cross_attention import launch, resources, tiles
from myosotis_kernels.cross_attention.resources import Variant
from myosotis_kernels.cross_attention.tiles import SHARED_LIMIT, Kernel

RESULTS = Path(__file__).parents[2] / "kernels/benchmarks/results/resources.csv"

# The padded widths are 64, 128 and 256. The whole table is in `resources.csv`; these
# rows are compiled again here, in about a second each.
TABLE = [
    (torch.bfloat16, 40),
    (torch.bfloat16, 80),
    (torch.bfloat16, 160),
    (torch.float16, 64),
    (torch.float16, 160),
    (torch.float32, 40),
    (torch.float32, 128),
]

FORMS = ((77, "all"), (512, "all"), (77, "plain"), (77, "mass_only"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert not launch.is_interpreted()


def recorded() -> dict[tuple[str, ...], tuple[int, int, int]]:
    with RESULTS.open(newline="") as file:
        return {
            (
                row["kernel"],
                row["arch"],
                row["dtype"],
                row["width"],
                row["keys"],
                row["inputs"],
            ): (
                int(row["registers"]),
                int(row["local_bytes"]),
                int(row["shared_bytes"]),
            )
            for row in csv.DictReader(file)
        }


def check(variant: Variant) -> resources.Resources:
    used = resources.compile_variant(variant)
    assert used.local_bytes == 0, "registers spill"
    assert used.shared_bytes <= SHARED_LIMIT[variant.arch]
    # A kernel of this kind with a handful of registers has been compiled away.
    assert used.registers > 32
    return used


@pytest.mark.slow
@pytest.mark.parametrize("arch", list(SHARED_LIMIT))
@pytest.mark.parametrize(("dtype", "width"), TABLE, ids=str)
def test_no_kernel_spills_or_exceeds_shared_memory(
    dtype: torch.dtype, width: int, arch: int
) -> None:
    table = recorded()
    for kernel in Kernel:
        used = check(Variant(kernel, arch, dtype, width))
        name = str(dtype).removeprefix("torch.")
        row = table[kernel.value, str(arch), name, str(width), "77", "all"]
        # The committed table is that of the committed kernels.
        assert row == (used.registers, used.local_bytes, used.shared_bytes)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", list(Kernel))
def test_long_texts_and_few_rows_compile_as_well(kernel: Kernel) -> None:
    check(Variant(kernel, 90, torch.bfloat16, 64, keys=512))
    check(Variant(kernel, 90, torch.bfloat16, 64, rows=64, groups=160, keys=1))


@pytest.mark.slow
def test_absent_inputs_compile_as_well() -> None:
    few = {"row_weight": False, "key_bias": False, "power": 1}
    check(Variant(Kernel.FORWARD, 90, torch.bfloat16, 160, **few))
    for kernel in (Kernel.GRAD_Q, Kernel.GRAD_KV):
        for absent in ("grad_o", "grad_mass"):
            check(Variant(kernel, 90, torch.bfloat16, 160, **few, **{absent: False}))


def test_the_recorded_table_is_whole_and_free_of_spills() -> None:
    table = recorded()
    expected = {
        (kernel.value, str(arch), dtype, str(width), str(keys), inputs)
        for kernel in Kernel
        for arch in SHARED_LIMIT
        for dtype in ("bfloat16", "float16", "float32")
        for width in (32, 40, 64, 80, 96, 128, 160)
        for keys, inputs in FORMS
        if not (dtype == "float32" and width > tiles.MAX_WIDTH_FP32)
        if not (kernel is Kernel.FORWARD and inputs == "mass_only")
    }
    assert set(table) == expected
    for (_, arch, *_rest), (_registers, local, shared) in table.items():
        assert local == 0
        assert shared <= SHARED_LIMIT[int(arch)]


def test_the_one_fall_back_is_listed_and_has_its_reason() -> None:
    reason = tiles.unsupported(width=160, keys=77, dtype=torch.float32)
    assert reason is not None
    with pytest.raises(ValueError, match="spills"):
        resources.compile_variant(Variant(Kernel.GRAD_Q, 90, torch.float32, 160))


@pytest.mark.slow
def test_the_fall_back_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    # If a compiler ever manages this tile without a spill, the fall-back can go.
    monkeypatch.setattr(tiles, "MAX_WIDTH_FP32", 160)
    variant = Variant(Kernel.FORWARD, 90, torch.float32, 160)
    assert resources.compile_variant(variant).local_bytes > 0


def test_every_device_finds_a_row() -> None:
    wanted = {
        (8, 0): 80,
        (8, 9): 80,
        (9, 0): 90,
        (10, 0): 100,
        (10, 3): 100,
        (12, 0): 80,
    }
    for capability, arch in wanted.items():
        assert tiles.architecture(capability) == arch
