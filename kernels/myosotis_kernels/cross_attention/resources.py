"""Ahead-of-time compilation: what each kernel asks of a GPU, without a GPU.

Compiles exactly what `launch.py` would launch, for a given compute capability, and
reads registers, spills and shared memory from the result. Not for a process that runs
kernels in the interpreter.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from myosotis_kernels.cross_attention import kernel, launch
from myosotis_kernels.cross_attention.tiles import Kernel, row_splits, tile

_POINTERS_OF_INPUT_DTYPE = {"Q", "K", "V", "O", "DO", "DQ"}
_ELEMENT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One compiled form of a kernel.

    `rows` and `keys` are N and L, `groups` is batch x heads; they set the loop bounds.
    The flags say which optional inputs are present.
    """

    which: Kernel
    arch: int
    dtype: torch.dtype
    width: int
    rows: int = 4096
    keys: int = 77
    groups: int = 8
    power: int = 2
    row_weight: bool = True
    key_bias: bool = True
    grad_o: bool = True
    grad_mass: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """Registers per thread, local memory per thread and shared memory per program.

    Local memory (bytes) is where registers spill to: 0 means that none does.
    """

    registers: int
    local_bytes: int
    shared_bytes: int


def compile_variant(variant: Variant) -> Resources:
    """Compile a variant to machine code and return what it needs.

    Raises:
        ValueError: There is no kernel for this width and dtype.
        RuntimeError: The resources cannot be read from the compiled code.
    """
    function = getattr(kernel, variant.which.value)
    t = tile(variant.which, width=variant.width, dtype=variant.dtype, arch=variant.arch)
    key_tiles = triton.cdiv(variant.keys, t.keys)
    _, blocks = row_splits(
        groups=variant.groups,
        key_tiles=key_tiles,
        row_blocks=triton.cdiv(variant.rows, t.rows),
    )
    values = {
        **launch.constants(
            t,
            dtype=variant.dtype,
            width=variant.width,
            power=variant.power,
            row_weight=variant.row_weight,
            key_bias=variant.key_bias,
            interpreted=False,
        ),
        **launch.grad_constants(
            dtype=variant.dtype, grad_o=variant.grad_o, grad_mass=variant.grad_mass
        ),
        "TILES": key_tiles,
        "BLOCKS": blocks,
    }
    absent = {
        name
        for name, is_present in {
            "R": variant.row_weight,
            "BIAS": variant.key_bias,
            "DO": variant.grad_o,
            "DV": variant.grad_o,
            "DA": variant.grad_mass,
        }.items()
        if not is_present
    }
    source = _source(function, values, absent, _ELEMENT[variant.dtype])
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", variant.arch, 32),
        options={"num_warps": t.warps, "num_stages": t.stages},
    )
    registers, local_bytes = _read_usage(compiled.asm["cubin"])
    return Resources(registers, local_bytes, compiled.metadata.shared)


def _source(
    function: Any,  # noqa: ANN401
    values: dict[str, Any],
    absent: set[str],
    element: str,
) -> ASTSource:
    """Describe the arguments as a launch with aligned tensors would."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, parameter in enumerate(function.params):
        name = parameter.name
        if name in absent or parameter.is_constexpr:
            signature[name] = "constexpr"
            constants[i,] = None if name in absent else values[name]
        elif name in {"H", "N", "L"}:
            signature[name] = "i32"
        elif name.startswith("scale"):
            signature[name] = "fp32"
        elif name.islower():
            signature[name] = "i32"
            attributes[i,] = _ALIGNED
        else:
            is_input = name in _POINTERS_OF_INPUT_DTYPE
            signature[name] = f"*{element if is_input else 'fp32'}"
            attributes[i,] = _ALIGNED
    return ASTSource(function, signature, constants, attributes)


def _read_usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and local bytes per thread, read by NVIDIA's cuobjdump."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = subprocess.run(  # noqa: S603
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+)", report)
    if usage is None:
        raise RuntimeError(f"no resource usage in {report!r}")
    return int(usage[1]), int(usage[2])
