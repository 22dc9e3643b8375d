"""Compiles every kernel for every architecture and writes what each needs of a GPU.

    python -m benchmarks.resources

Needs no GPU, takes some ten minutes on one core. Writes `results/resources.csv`:
registers per thread, bytes of local memory per thread (spilled registers), bytes of
shared memory per program. Not for a process with `TRITON_INTERPRET=1`.
"""

import csv
import itertools
import sys
from pathlib import Path

import torch
import triton
from myosotis_kernels.cross_attention.resources import Variant, compile_variant
from myosotis_kernels.cross_attention.tiles import (
    SHARED_LIMIT,
    Kernel,
    tile,
    unsupported,
)

RESULTS = Path(__file__).parent / "results" / "resources.csv"
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDTHS = (32, 40, 64, 80, 96, 128, 160)
# The text's length, and which optional inputs there are: all, no row weight and no key
# bias (the usual case), and no gradient of the output either (a step's last layer).
PLAIN = {"row_weight": False, "key_bias": False}
FORMS: tuple[tuple[str, int, dict[str, bool]], ...] = (
    ("all", 77, {}),
    ("all", 512, {}),
    ("plain", 77, PLAIN),
    ("mass_only", 77, {**PLAIN, "grad_o": False}),
)
COLUMNS = (
    "kernel", "arch", "dtype", "width", "keys", "inputs",
    "rows_per_tile", "warps", "stages",
    "registers", "local_bytes", "shared_bytes", "triton",
)  # fmt: skip


def main() -> None:
    """Compile the whole table; one line of progress per row."""
    with RESULTS.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for dtype, width, form, arch, kernel in itertools.product(
            DTYPES, WIDTHS, FORMS, SHARED_LIMIT, Kernel
        ):
            inputs, keys, flags = form
            if unsupported(width=width, keys=keys, dtype=dtype) is not None:
                continue
            if kernel is Kernel.FORWARD and inputs == "mass_only":
                continue
            used = compile_variant(
                Variant(kernel, arch, dtype, width, keys=keys, **flags)
            )
            t = tile(kernel, width=width, dtype=dtype, arch=arch)
            name = str(dtype).removeprefix("torch.")
            row = (
                kernel.value, arch, name, width, keys, inputs,
                t.rows, t.warps, t.stages,
                used.registers, used.local_bytes, used.shared_bytes,
                triton.__version__,
            )  # fmt: skip
            table.writerow(row)
            sys.stderr.write(" ".join(map(str, row)) + "\n")


if __name__ == "__main__":
    main()
