"""Times and bytes of a function on a device."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

# More than the second-level cache of any card so far.
FLUSH_BYTES = 256 * 1024 * 1024
REPLAYS = 50
PER_GRAPH = 10


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of one run: 20th, 50th and 80th percentile."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, microseconds: list[float]) -> "Times":
        """Summarise repeated measurements."""
        p20, _, _, p80 = quantiles(microseconds, n=5)
        return cls(p20, quantiles(microseconds, n=2)[0], p80)


def time_graph(run: Callable[[], object], *, is_cold: bool) -> Times:
    """Capture the function in a CUDA graph and time its replays.

    Hot: the function many times in a row, so its inputs are in the cache as far as they
    fit. Cold: a buffer larger than the cache is overwritten before each run, and the
    time of that alone is taken off.

    The function must have run before on the current stream, which must not be the
    default one.
    """
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    if not is_cold:
        return Times.of(_replays(_captured(run)))
    cleared = _replays(_captured(flush.zero_))
    base = quantiles(cleared, n=2)[0]

    def both() -> None:
        flush.zero_()
        run()

    return Times.of([t - base for t in _replays(_captured(both))])


def _captured(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(PER_GRAPH):
            run()
    return graph


def _replays(graph: torch.cuda.CUDAGraph) -> list[float]:
    graph.replay()
    microseconds = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        microseconds.append(start.elapsed_time(end) * 1000 / PER_GRAPH)
    return microseconds


def time_eager(run: Callable[[], object], device: str, repeats: int) -> Times:
    """Time single runs, launches included."""
    microseconds = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        microseconds.append((time.perf_counter() - start) * 1e6)
    return Times.of(microseconds)


def saved_bytes(forward: Callable[[], object]) -> int:
    """Count distinct storages that a forward pass keeps for its backward pass."""
    storages: dict[int, int] = {}

    def count(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        storages[storage._cdata] = storage.nbytes()  # noqa: SLF001
        return x

    with saved_tensors_hooks(count, lambda x: x):
        results = forward()
    del results
    return sum(storages.values())


def peak_bytes(run: Callable[[], object]) -> int:
    """Return how far a run lifts the allocated GPU memory at its highest point."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def copy_bandwidth() -> float:
    """Measure bytes read and written per second by a large copy on the GPU."""
    source = torch.empty(1024 * 1024 * 1024, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    times = time_graph(lambda: target.copy_(source), is_cold=False)
    return 2 * source.numel() / (times.p20 * 1e-6)
