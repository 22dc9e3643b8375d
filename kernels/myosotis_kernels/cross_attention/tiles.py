"""Tile sizes per kernel, and which inputs have none.

The table is fixed: nothing is tuned at run time, so a launch never syncs with the host
and the same input gives the same bits in every process. Each row was compiled ahead of
time for sm_80, sm_90 and sm_100 and neither spills registers nor exceeds the shared
memory of the architecture; `tests/kernels` compiles them again.
"""

# The table is made of bare numbers.
# ruff: noqa: PLR2004

from dataclasses import dataclass
from enum import Enum

import torch

MIN_WIDTH = 32
MAX_WIDTH = 160
MAX_KEYS = 512

# fp32 products are exact (no TF32) and hold their operands in registers: at a padded
# width of 256 every tile that was tried spills.
MAX_WIDTH_FP32 = 128

# Programs that keep two of them on each multiprocessor of a large card busy.
ENOUGH_PROGRAMS = 264

# Bytes of shared memory that one program may use, by compute capability.
SHARED_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}


class Kernel(Enum):
    """A kernel of `kernel.py`; the value is its name there."""

    FORWARD = "forward_kernel"
    GRAD_Q = "grad_q_kernel"
    GRAD_KV = "grad_kv_kernel"


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and keys of one tile, warps of a program, stages of the load pipeline."""

    rows: int
    keys: int
    warps: int
    stages: int


def padded_width(width: int) -> int:
    """Return the power of two at or above a head width."""
    return 1 << (width - 1).bit_length()


def architecture(capability: tuple[int, int]) -> int:
    """Return the row of the table for a compute capability such as (9, 0).

    Consumer Ada and Blackwell share the matrix instructions of sm_80.
    """
    major, _ = capability
    return {9: 90, 10: 100}.get(major, 80)


def tile(kernel: Kernel, *, width: int, dtype: torch.dtype, arch: int) -> Tile:
    """Return the tile of a kernel for a head width, a dtype and a row of the table.

    Raises:
        ValueError: The combination is one of `unsupported`'s.
    """
    reason = unsupported(width=width, keys=1, dtype=dtype)
    if reason is not None:
        raise ValueError(reason)
    padded = padded_width(width)
    if dtype == torch.float32:
        return _tile_fp32(kernel, padded, arch)
    if kernel is Kernel.GRAD_KV and padded > 128 and arch == 100:
        return Tile(rows=32, keys=16, warps=4, stages=2)
    # Eight warps where four would spill.
    is_wide_fp16 = dtype == torch.float16 and padded > (64 if arch == 80 else 128)
    has_eight = (kernel is Kernel.FORWARD and arch == 100 and padded != 128) or (
        kernel is Kernel.GRAD_Q and is_wide_fp16
    )
    return Tile(rows=64, keys=16, warps=8 if has_eight else 4, stages=2)


def _tile_fp32(kernel: Kernel, padded: int, arch: int) -> Tile:
    if kernel is Kernel.GRAD_KV:
        rows = 16 if padded > 64 and arch == 80 else 32
        return Tile(rows=rows, keys=16, warps=8, stages=1)
    if padded > 64:
        return Tile(rows=16, keys=16, warps=8, stages=1)
    return Tile(rows=32, keys=16, warps=4, stages=1)


def unsupported(*, width: int, keys: int, dtype: torch.dtype) -> str | None:
    """Return why no kernel takes this shape and dtype, or None."""
    if dtype not in {torch.float32, torch.float16, torch.bfloat16}:
        return f"no kernel for {dtype}"
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        return f"head width {width} is outside {MIN_WIDTH} to {MAX_WIDTH}"
    if keys > MAX_KEYS:
        return f"{keys} keys are more than {MAX_KEYS}"
    if dtype == torch.float32 and width > MAX_WIDTH_FP32:
        return f"fp32 at head width {width} above {MAX_WIDTH_FP32} spills registers"
    return None


def row_splits(*, groups: int, key_tiles: int, row_blocks: int) -> tuple[int, int]:
    """Cut row blocks into (splits, blocks per split) for `grad_kv_kernel`.

    The number of splits depends on the shape alone, never on the device: the order of
    summation, and so the result, is the same on every card. A power of two keeps the
    number of compiled variants small.
    """
    wanted = -(-ENOUGH_PROGRAMS // (groups * key_tiles))
    blocks = -(-row_blocks // padded_width(wanted))
    return -(-row_blocks // blocks), blocks
