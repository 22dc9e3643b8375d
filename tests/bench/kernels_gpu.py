"""Cross-attention with attention mass on a GPU, against its alternatives.

    python -m tests.bench.kernels_gpu

Needs a CUDA device; without one it says so and writes nothing. Takes some minutes.
Writes the per-shape results to `kernels/benchmarks/results/<device>.csv` (commit it)
and, from the forward + backward times at the 4096-row layers with 77 keys, graph-timed
with a hot cache, the worst layer of each ratio to `build/bench/kernels_gpu.json`:

- `speed_ratio_naive`: materialised probabilities over ours;
- `speed_ratio_vaug`: SDPA with augmented values (the better of two forms) over ours;
- `over_floor`: ours over the time to move every input and result once.
"""

import sys
from collections.abc import Iterable

import torch
from benchmarks import cross_attention
from benchmarks.cross_attention import Row

from tests.bench.record import write_figures

AUGMENTED = {"augmented", "augmented_padded"}


def figures(rows: Iterable[Row]) -> dict[str, float]:
    """Return the worst layer of each ratio."""
    layers: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        if (row.rows, row.keys, row.mode, row.cache) == (4096, 77, "full", "hot"):
            layers.setdefault((row.model, row.heads), {})[row.provider] = row
    naive, augmented, floor = [], [], []
    for by_provider in layers.values():
        ours = by_provider["ours"]
        naive.append(by_provider["naive"].p50_us / ours.p50_us)
        forms = [row.p50_us for name, row in by_provider.items() if name in AUGMENTED]
        augmented.append(min(forms) / ours.p50_us)
        floor.append(ours.p50_us / ours.floor_us)
    return {
        "speed_ratio_naive": min(naive),
        "speed_ratio_vaug": min(augmented),
        "over_floor": max(floor),
    }


def main() -> None:
    """Measure, write the table and the figures."""
    if not torch.cuda.is_available():
        sys.stderr.write("kernels_gpu: no CUDA device, nothing measured\n")
        return
    rows = cross_attention.run_all(device="cuda")
    cross_attention.write(rows, cross_attention.results_path(rows[0].device))
    path = write_figures(
        "kernels_gpu",
        figures(rows),
        packages=("torch", "triton"),
        device=rows[0].device,
        threads=1,
    )
    sys.stdout.write(path.read_text())


if __name__ == "__main__":
    main()
