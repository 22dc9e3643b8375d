"""Cross-attention with attention mass on the CPU, and what its kernels would save.

    python -m tests.bench.kernels_cpu

Takes about a minute on one core. Writes `build/bench/kernels_cpu.json`:

- `saved_ratio_77`, `saved_ratio_512`: bytes kept for the backward pass, naive over
  ours, at the 4096-row layers of Stable Diffusion 1.5 (76 % of its probabilities),
  bf16, 77 and 512 keys; `..._model` the same over all sixteen layers,
  `..._probabilities` what is kept beyond q, k and v;
- `time_ratio`: ours over naive, forward and backward, fp32, 1024 rows of width 80,
  where the CPU path keeps the probabilities; `time_ratio_chunked`: at 4096 rows of
  width 40, where it recomputes them in blocks; with the lower and upper quartile;
- `peak_mb_at_16384_rows`: how far forward and backward lift the resident memory of a
  fresh process above its inputs, results and gradients (8 heads, width 40, 77 keys,
  fp32; the probabilities alone would be 40 MB), `..._naive` the same for naive.
"""

# Shape letters are upper case, as in the kernels.
# ruff: noqa: N806

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import torch
from myosotis_kernels.cross_attention import attention_with_mass
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from tests.bench.record import write_figures

Attention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# Cross-attention layers of Stable Diffusion 1.5 at 512 px: how many, rows, head width.
HEADS = 8
LAYERS = ((5, 4096, 40), (5, 1024, 80), (5, 256, 160), (1, 64, 160))

REPEATS = 201
MEBIBYTE = 1024 * 1024


def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The published form: probabilities in the input's dtype, kept once."""
    B, H, N, D = q.shape
    q, k, v = (x.reshape(B * H, -1, D) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=D**-0.5)
    p = scores.softmax(dim=-1)
    return torch.bmm(p, v).view(B, H, N, D), p.square().sum(dim=1).view(B, H, -1)


def kernels(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The registered operator as it runs on a GPU."""
    return attention_with_mass(q, k, v, implementation="triton")


def ours(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The registered operator as it runs on the CPU."""
    return attention_with_mass(q, k, v)


def saved_bytes(
    attention: Attention,
    *,
    rows: int,
    width: int,
    keys: int,
    is_with_inputs: bool = True,
) -> int:
    """Count distinct storages that one bf16 layer keeps for its backward pass."""
    storages: dict[int, int] = {}

    def count(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        return x

    with FakeTensorMode():
        q, k, v = (
            torch.empty((1, HEADS, n, width), dtype=torch.bfloat16)
            for n in (rows, keys, keys)
        )
        inputs = [x.requires_grad_() for x in (q, k, v)]
        with saved_tensors_hooks(count, lambda x: x):
            results = attention(*inputs)
    del results
    total = sum(storages.values())
    return total if is_with_inputs else total - sum(x.nbytes for x in inputs)


def saved_ratio(*, keys: int, is_with_inputs: bool = True) -> float:
    """Naive over ours at the 4096-row layers."""

    def saved(attention: Attention) -> int:
        return saved_bytes(
            attention, rows=4096, width=40, keys=keys, is_with_inputs=is_with_inputs
        )

    return saved(naive) / saved(kernels)


def saved_ratio_of_model(*, keys: int) -> float:
    """Naive over ours, summed over all cross-attention layers."""

    def total(attention: Attention) -> int:
        return sum(
            count * saved_bytes(attention, rows=rows, width=width, keys=keys)
            for count, rows, width in LAYERS
        )

    return total(naive) / total(kernels)


def a_problem(rows: int, width: int) -> list[Tensor]:
    """Draw q, k, v and the gradients of output and mass, as a model lays them out."""
    g = torch.Generator().manual_seed(0)

    def heads(n: int) -> Tensor:
        return torch.randn((1, n, HEADS, width), generator=g).transpose(1, 2)

    mass = torch.randn((1, HEADS, 77), generator=g)
    return [heads(rows), heads(77), heads(77), heads(rows), mass]


def step(attention: Attention, problem: list[Tensor]) -> tuple[Tensor, ...]:
    """Run forward and backward once and return results and gradients."""
    leaves = [x.detach().requires_grad_() for x in problem[:3]]
    outputs = attention(*leaves)
    return (*outputs, *torch.autograd.grad(outputs, leaves, problem[3:]))


def time_ratio(*, rows: int, width: int) -> tuple[float, float, float]:
    """Return quartiles of ours over naive; low, median, high.

    Each repeat times both, one after the other and in turn first, so that load on the
    machine falls on both alike.
    """
    problem = a_problem(rows, width)
    for a, b in zip(step(ours, problem), step(naive, problem), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    ratios = []
    for i in range(REPEATS):
        order = (ours, naive) if i % 2 else (naive, ours)
        seconds = {}
        for attention in order:
            start = time.perf_counter()
            step(attention, problem)
            seconds[attention] = time.perf_counter() - start
        ratios.append(seconds[ours] / seconds[naive])
    low, median, high = quantiles(ratios, n=4)
    return low, median, high


def peak_mb(attention_name: str, *, rows: int) -> float:
    """Measure, in a fresh process, the peak above inputs, results and gradients."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.kernels_cpu",
        attention_name,
        str(rows),
    ]
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        # Every block of 64 KiB returns to the system when freed: no hidden reuse.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _status_kb(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise KeyError(key)


def print_peak(attention: Attention, rows: int) -> None:
    """Print the peak in megabytes; the process ends after it."""
    torch.set_num_threads(1)
    step(attention, a_problem(8, 40))  # libraries load and allocate on first use
    problem = a_problem(rows, 40)
    before = _status_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    results = step(attention, problem)
    peak = _status_kb("VmHWM") - before
    kept = sum(x.numel() * x.element_size() for x in results)
    sys.stdout.write(f"{(peak * 1024 - kept) / MEBIBYTE}\n")


def main() -> None:
    """Measure everything and write the figures."""
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for keys in (77, 512):
        figures[f"saved_ratio_{keys}"] = saved_ratio(keys=keys)
        figures[f"saved_ratio_{keys}_model"] = saved_ratio_of_model(keys=keys)
        figures[f"saved_ratio_{keys}_probabilities"] = saved_ratio(
            keys=keys, is_with_inputs=False
        )
    for name, rows, width in (
        ("time_ratio", 1024, 80),
        ("time_ratio_chunked", 4096, 40),
    ):
        low, median, high = time_ratio(rows=rows, width=width)
        figures |= {name: median, f"{name}_low": low, f"{name}_high": high}
    for name in ("ours", "naive"):
        suffix = "" if name == "ours" else "_naive"
        figures[f"peak_mb_at_16384_rows{suffix}"] = peak_mb(name, rows=16384)
        figures[f"peak_mb_at_65536_rows{suffix}"] = peak_mb(name, rows=65536)
    path = write_figures(
        "kernels_cpu", figures, packages=("torch", "triton"), threads=1
    )
    sys.stdout.write(path.read_text())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_peak({"ours": ours, "naive": naive}[sys.argv[1]], int(sys.argv[2]))
    else:
        main()
