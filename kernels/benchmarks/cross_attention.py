"""Cross-attention with attention mass against other ways to compute it.

    python -m benchmarks.cross_attention            # needs a CUDA device; minutes
    python -m benchmarks.cross_attention --device cpu --quick --out FILE

Real layer shapes of Stable Diffusion 1.5, 2.1 (512 px) and XL (1024 px), batch 4, bf16.
Each provider is checked against fp64 before it is timed; one that is wrong is not
timed, and if it is ours the run fails. Writes one row per shape, provider, mode and
cache state to `results/<device>.csv`, with the device, the versions and the commit on
every row.
"""

import argparse
import csv
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import config as dynamo_config
from torch._functorch import config as functorch_config

from benchmarks import providers, timing
from benchmarks.providers import Concept, Provider

RESULTS = Path(__file__).parent / "results"
COLUMNS = range(2, 6)  # four concept tokens
MEBIBYTE = 1024 * 1024

# PyTorch's own low-precision error times this is still right (outputs, gradients).
SLACK = (2, 2, 3, 3, 3)


@dataclass(frozen=True, slots=True)
class Shape:
    """One cross-attention layer: image rows, heads, head width, text keys, batch."""

    model: str
    rows: int
    heads: int
    width: int
    keys: int = 77
    batch: int = 4


SHAPES = (
    Shape("sd15", 4096, 8, 40),
    Shape("sd15", 1024, 8, 80),
    Shape("sd15", 256, 8, 160),
    Shape("sd15", 64, 8, 160),
    Shape("sd15", 4096, 8, 40, keys=512),
    Shape("sd21", 4096, 5, 64),
    Shape("sd21", 1024, 10, 64),
    Shape("sd21", 256, 20, 64),
    Shape("sd21", 64, 20, 64),
    Shape("sdxl", 4096, 10, 64),
    Shape("sdxl", 1024, 20, 64),
)
QUICK = (Shape("quick", 64, 2, 40, batch=2),)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results. Times are microseconds, memory mebibytes.

    `floor_us` is what moving each input and result once would take at the measured copy
    bandwidth; 0 where there is no device to measure it on. `peak_mb` likewise.
    """

    model: str
    rows: int
    heads: int
    width: int
    keys: int
    batch: int
    dtype: str
    provider: str
    mode: str
    cache: str
    timing: str
    p20_us: float
    p50_us: float
    p80_us: float
    floor_us: float
    peak_mb: float
    saved_mb: float
    error_o: float
    error_mass: float
    error_dq: float
    error_dk: float
    error_dv: float
    device: str
    torch: str
    triton: str
    driver: str
    commit: str


class WrongResultError(Exception):
    """A provider's error exceeds what its precision allows."""


class Problem:
    """The tensors of one shape on one device."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: str) -> None:
        g = torch.Generator().manual_seed(0)

        def heads(n: int) -> Tensor:
            x = torch.randn((shape.batch, n, shape.heads, shape.width), generator=g)
            return x.to(device, dtype).transpose(1, 2)

        self.q, self.k, self.v = heads(shape.rows), heads(shape.keys), heads(shape.keys)
        self.grad_o = heads(shape.rows)
        grad_mass = torch.randn((shape.batch, shape.heads), generator=g)
        self.grad_mass = grad_mass.to(device)
        self.concept = Concept.of(
            COLUMNS, keys=shape.keys, width=shape.width, device=device
        )

    def leaves(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Return q, k, v as leaves that want a gradient."""
        return [
            x.detach().to(dtype or x.dtype).requires_grad_()
            for x in (self.q, self.k, self.v)
        ]

    def outputs(
        self, provider: Provider, leaves: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return output and the concept's mass."""
        q, k, v = leaves
        return provider(q, k, v, self.concept)

    def results(self, provider: Provider, leaves: list[Tensor]) -> list[Tensor]:
        """Return output, mass and the three gradients."""
        outputs = self.outputs(provider, leaves)
        return [*outputs, *torch.autograd.grad(outputs, leaves, self.seeds(outputs))]

    def seeds(self, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the gradients of the outputs in their dtypes."""
        o, mass = outputs
        return self.grad_o.to(o.dtype), self.grad_mass.to(mass.dtype)


def check(problem: Problem, provider: Provider) -> list[float]:
    """Return the relative errors of output, mass, dq, dk, dv.

    Raises:
        WrongResultError: One is above the slack times low-precision PyTorch's own.
    """
    truth = problem.results(providers.naive, problem.leaves(torch.float64))
    errors, usual = (
        [
            float(((x.detach().double() - t).norm() / t.norm()).item())
            for x, t in zip(problem.results(p, problem.leaves()), truth, strict=True)
        ]
        for p in (provider, providers.naive)
    )
    floor = torch.finfo(problem.q.dtype).eps
    for error, own, slack in zip(errors, usual, SLACK, strict=True):
        if not error <= slack * own + floor:
            raise WrongResultError(f"relative errors {errors}, PyTorch's own {usual}")
    return errors


def modes(problem: Problem, provider: Provider) -> dict[str, Callable[[], object]]:
    """Return forward, backward and both as functions of nothing."""
    leaves = problem.leaves()

    def forward() -> tuple[Tensor, Tensor]:
        return problem.outputs(provider, leaves)

    outputs = forward()
    seeds = problem.seeds(outputs)

    def backward() -> object:
        return torch.autograd.grad(outputs, leaves, seeds, retain_graph=True)

    def full() -> object:
        results = forward()
        return torch.autograd.grad(results, leaves, problem.seeds(results))

    return {"forward": forward, "backward": backward, "full": full}


def floor_bytes(shape: Shape, mode: str, itemsize: int) -> int:
    """Count the bytes of each input and result once."""
    groups = shape.batch * shape.heads
    queries = groups * shape.rows * shape.width * itemsize
    keys = groups * shape.keys * shape.width * itemsize
    mass = groups * shape.keys * 4
    forward = 2 * queries + 2 * keys + mass
    backward = 3 * queries + 4 * keys + mass
    return {"forward": forward, "backward": backward, "full": forward + backward}[mode]


def measure(
    shape: Shape, name: str, provider: Provider, *, device: str, bandwidth: float
) -> Iterator[Row]:
    """Check one provider on one shape, then time it in every mode."""
    dtype = torch.bfloat16
    problem = Problem(shape, dtype, device)
    errors = check(problem, provider)
    names = ("error_o", "error_mass", "error_dq", "error_dk", "error_dv")
    found: dict[str, Any] = dict(
        zip(names, (float(f"{error:.2e}") for error in errors), strict=True)
    )
    is_captured = device == "cuda" and name not in providers.NOT_CAPTURED
    functions = modes(problem, provider)
    saved = timing.saved_bytes(functions["forward"])
    for mode, cache in itertools.product(functions, ("hot", "cold")):
        run = functions[mode]
        run()
        if is_captured:
            times = timing.time_graph(run, is_cold=cache == "cold")
        elif cache == "hot":
            times = timing.time_eager(run, device, repeats=20)
        else:
            continue
        peak = timing.peak_bytes(run) if device == "cuda" else 0
        floor = floor_bytes(shape, mode, dtype.itemsize)
        yield Row(
            **asdict(shape),
            dtype=str(dtype).removeprefix("torch."),
            provider=name,
            mode=mode,
            cache=cache,
            timing="graph" if is_captured else "eager",
            p20_us=round(times.p20, 2),
            p50_us=round(times.p50, 2),
            p80_us=round(times.p80, 2),
            floor_us=round(floor / bandwidth * 1e6, 2) if bandwidth else 0,
            peak_mb=round(peak / MEBIBYTE, 2),
            saved_mb=round(saved / MEBIBYTE, 2),
            **found,
            **provenance(device),
        )


def provenance(device: str) -> dict[str, Any]:
    """Return the device, the versions and the commit."""
    triton = sys.modules.get("triton")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "device": name,
        "torch": torch.__version__,
        "triton": getattr(triton, "__version__", ""),
        "driver": _driver() if device == "cuda" else "",
        "commit": _commit(),
    }


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _said(query).splitlines()[0]


def _commit() -> str:
    here = str(Path(__file__).parent)
    is_dirty = _said(["git", "-C", here, "status", "--porcelain", "--", ".."])
    return _said(["git", "-C", here, "rev-parse", "HEAD"]) + ("+" if is_dirty else "")


def _said(command: list[str]) -> str:
    """Return what a command prints, or "unknown": a benchmark does not fail over it."""
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def run_all(*, device: str, is_quick: bool = False) -> list[Row]:
    """Measure every shape and provider; one line of progress for each.

    An alternative that cannot run here, or is wrong, is left out and said so.

    Raises:
        WrongResultError: Ours is wrong.
    """
    if device == "cuda":
        # Capture and the backward pass need one stream that is not the default.
        torch.cuda.set_stream(torch.cuda.Stream())
        torch.backends.cuda.matmul.allow_tf32 = False
        # A compiled provider may be asked for its backward pass again and again.
        functorch_config.donated_buffer = False
        # One compilation a shape; beyond the limit PyTorch would run uncompiled.
        dynamo_config.recompile_limit = 100
    bandwidth = timing.copy_bandwidth() if device == "cuda" else 0.0
    table = providers.on_a_gpu() if device == "cuda" else providers.ANYWHERE
    rows = []
    for shape in QUICK if is_quick else SHAPES:
        for name, provider in table.items():
            try:
                found = list(
                    measure(shape, name, provider, device=device, bandwidth=bandwidth)
                )
            except Exception as error:
                # What other people's code raises here is theirs to choose.
                if name == "ours":
                    raise
                sys.stderr.write(f"{shape} {name}: left out: {error!r:.300}\n")
                continue
            rows += found
            best = min(row.p50_us for row in found if row.mode == "full")
            sys.stderr.write(f"{shape} {name}: {best:.1f} us\n")
    return rows


def write(rows: list[Row], path: Path) -> None:
    """Write the rows as CSV."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(
            file, [field.name for field in fields(Row)], lineterminator="\n"
        )
        table.writeheader()
        table.writerows(asdict(row) for row in rows)


def results_path(device_name: str) -> Path:
    """Return the committed file of a device."""
    return RESULTS / (device_name.lower().replace(" ", "-") + ".csv")


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="one small shape")
    parser.add_argument("--out", type=Path, help="default: results/<device>.csv")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --quick --out FILE tries the code")
    if options.device == "cpu" and options.out is None:
        parser.error("a CPU run needs --out: results/ holds devices")
    rows = run_all(device=options.device, is_quick=options.quick)
    write(rows, options.out or results_path(rows[0].device))


if __name__ == "__main__":
    main()
