import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from myosotis_kernels.cross_attention import attention_with_mass, op, reference, why_not
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.bench.kernels_cpu import peak_mb, saved_ratio
from tests.kernels.inputs import a_case, relative_error

OPERATOR = torch.ops.myosotis_kernels.attention_with_mass.default
BACKWARD = torch.ops.myosotis_kernels.attention_with_mass_backward.default


@pytest.fixture
def nan_filled() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN."""
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("where", ["kept", "chunked"])
@pytest.mark.parametrize("is_plain", [True, False])
def test_the_operator_passes_opcheck(where: str, *, is_plain: bool) -> None:
    # bf16 in one of them: the mass is wider than the inputs then.
    case = a_case(dtype=torch.bfloat16 if is_plain else torch.float32)
    small = (None, None) if is_plain else (case.row_weight, case.key_bias)
    args = (*case.leaves(), *small, 2, 0.5, where)
    torch.library.opcheck(OPERATOR, args)
    _, _, kept = OPERATOR(*args)
    qkv = [x.detach() for x in args[:3]]
    for grads in (
        (case.grad_o, case.grad_mass),
        (None, case.grad_mass),
        (case.grad_o, None),
    ):
        torch.library.opcheck(
            BACKWARD, (*grads, *qkv, kept.detach(), *small, *args[5:])
        )


@pytest.mark.parametrize("is_dynamic", [True, False])
def test_it_compiles_without_a_graph_break(*, is_dynamic: bool) -> None:
    case = a_case(dtype=torch.float32)

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o, mass = attention_with_mass(q, k, v, **case.settings())
        return o.square().mean() + mass[..., 1:3].sum().sqrt()

    compiled = torch.compile(
        loss, fullgraph=True, backend="aot_eager", dynamic=is_dynamic
    )
    eager, traced = case.leaves(), case.leaves()
    wanted, got = loss(*eager), compiled(*traced)
    torch.testing.assert_close(got, wanted)
    pairs = zip(
        torch.autograd.grad(got, traced),
        torch.autograd.grad(wanted, eager),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_the_mass_alone_leaves_the_values_out_of_the_graph() -> None:
    leaves = a_case().leaves()
    _, mass = attention_with_mass(*leaves)
    grads = torch.autograd.grad(mass.sum(), leaves, allow_unused=True)
    assert [g is None for g in grads] == [False, False, True]


def test_frozen_inputs_get_no_gradient() -> None:
    q, k, v = a_case().leaves()
    o, mass = attention_with_mass(q.detach(), k, v.detach())
    (grad,) = torch.autograd.grad(o.sum() + mass.sum(), [k])
    assert grad.any()


def test_a_second_derivative_is_refused() -> None:
    leaves = a_case().leaves()
    o, mass = attention_with_mass(*leaves)
    (grad,) = torch.autograd.grad(o.sum() + mass.sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(grad.sum(), leaves)


@pytest.mark.usefixtures("nan_filled")
@pytest.mark.parametrize("keep_bytes", [0, 2**30])
def test_every_element_of_the_results_is_written(
    keep_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch.empty(1).isnan()
    monkeypatch.setattr(op, "KEEP_BYTES", keep_bytes)
    case = a_case()
    leaves = case.leaves()
    outputs = attention_with_mass(*leaves, **case.settings())
    grads = torch.autograd.grad(outputs, leaves, (case.grad_o, case.grad_mass))
    for x in (*outputs, *grads):
        assert x.isfinite().all()


def test_twice_the_same_input_gives_the_same_bits() -> None:
    case = a_case(2, 4, 300, 77, 40, dtype=torch.float32)

    def run() -> list[Tensor]:
        leaves = case.leaves()
        outputs = attention_with_mass(*leaves, **case.settings())
        grads = torch.autograd.grad(outputs, leaves, (case.grad_o, case.grad_mass))
        return [*outputs, *grads]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


def test_the_output_projects_without_a_copy() -> None:
    case = a_case()
    o, _ = attention_with_mass(case.q, case.k, case.v)
    rows = o.transpose(1, 2).reshape(2, 11, 2 * 5)
    assert rows.data_ptr() == o.data_ptr()


def test_inputs_are_left_as_they_are() -> None:
    case = a_case()
    before = [x.clone() for x in (case.q, case.k, case.v, case.grad_o)]
    leaves = case.leaves()
    outputs = attention_with_mass(*leaves, **case.settings())
    torch.autograd.grad(outputs, leaves, (case.grad_o, case.grad_mass))
    for x, y in zip(before, (case.q, case.k, case.v, case.grad_o), strict=True):
        assert torch.equal(x, y)


def test_small_inputs_keep_the_probabilities_and_large_ones_do_not() -> None:
    with FakeTensorMode():
        small, large = torch.empty(1, 8, 1024, 80), torch.empty(1, 8, 4096, 80)
        text = torch.empty(1, 8, 77, 80)
        assert op._choose(small, text, text, "auto") == "kept"
        assert op._choose(large, text, text, "auto") == "chunked"


@pytest.mark.slow
def test_memory_on_the_cpu_does_not_grow_with_the_rows() -> None:
    # The probabilities would be 160 MB and the naive form needs 530. Some 8 MB are
    # measured, four blocks of scores; the rest is room for the allocator.
    assert peak_mb("ours", rows=65536) < 32


def test_the_kernels_save_less_than_the_probabilities() -> None:
    assert saved_ratio(keys=77) >= 2.2
    assert saved_ratio(keys=512) >= 8


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"power": 3}, ValueError),
        ({"scale": math.nan}, ValueError),
        ({"implementation": "fast"}, ValueError),
        ({"q": torch.zeros(2, 2, 11, 5, dtype=torch.float32)}, TypeError),
        ({"q": torch.zeros(2, 11, 5, dtype=torch.float64)}, ValueError),
        ({"k": torch.zeros(2, 2, 7, 4, dtype=torch.float64)}, ValueError),
        ({"v": torch.zeros(2, 2, 6, 5, dtype=torch.float64)}, ValueError),
        ({"q": torch.zeros(3, 2, 11, 5, dtype=torch.float64)}, ValueError),
        ({"q": torch.zeros(2, 2, 0, 5, dtype=torch.float64)}, ValueError),
        (
            {"q": torch.zeros(2, 2, 11, 5, dtype=torch.float64, device="meta")},
            ValueError,
        ),
        ({"row_weight": torch.ones(2, 7)}, ValueError),
        ({"row_weight": torch.ones(2, 11, dtype=torch.bool)}, ValueError),
        ({"row_weight": torch.ones(2, 11, requires_grad=True)}, ValueError),
        ({"row_weight": torch.ones(2, 11, device="meta")}, ValueError),
        ({"key_bias": torch.ones(2, 11)}, ValueError),
        ({"key_bias": torch.ones(7)}, ValueError),
    ],
)
def test_an_argument_out_of_range_is_refused(
    change: dict[str, Any], error: type[Exception]
) -> None:
    case = a_case()
    given = {"q": case.q, "k": case.k, "v": case.v, **change}
    with pytest.raises(error):
        attention_with_mass(**given)


def test_integers_and_eight_bit_floats_are_refused() -> None:
    for dtype in (torch.int32, torch.float8_e4m3fn):
        x = torch.ones(1, 1, 4, 4).to(dtype)
        with pytest.raises(TypeError):
            attention_with_mass(x, x, x)


def on_paper(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("q", "k", "word"),
    [
        (((1, 8, 64, 24), {}), ((1, 8, 77, 24), {}), "width 24"),
        (((1, 8, 64, 168), {}), ((1, 8, 77, 168), {}), "width 168"),
        (((1, 8, 64, 64), {}), ((1, 8, 513, 64), {}), "513 keys"),
        (((70000, 1, 4, 64), {}), ((70000, 1, 7, 64), {}), "70000"),
        (
            ((1, 8, 64, 160), {"dtype": torch.float32}),
            ((1, 8, 77, 160), {"dtype": torch.float32}),
            "fp32",
        ),
        (
            ((1, 8, 64, 64), {"dtype": torch.float64}),
            ((1, 8, 77, 64), {"dtype": torch.float64}),
            "float64",
        ),
    ],
)
def test_each_shape_without_a_kernel_has_a_reason(
    q: tuple[Any, Any], k: tuple[Any, Any], word: str
) -> None:
    with FakeTensorMode():
        queries = on_paper(*q[0], **q[1])
        keys = on_paper(*k[0], **k[1])
        with pytest.raises(ValueError, match=word):
            attention_with_mass(queries, keys, keys, implementation="triton")


def test_a_width_that_is_not_contiguous_has_a_reason() -> None:
    with FakeTensorMode():
        queries = on_paper(1, 8, 64, 40).mT.contiguous().mT
        keys = on_paper(1, 8, 77, 40)
        with pytest.raises(ValueError, match="last dimension of q"):
            attention_with_mass(queries, keys, keys, implementation="triton")


def test_the_cpu_is_a_reason_and_the_kernels_can_be_demanded() -> None:
    x = torch.ones(1, 1, 8, 40)
    reason = why_not(x, x, x)
    assert reason is not None
    assert "cpu" in reason
    with pytest.raises(RuntimeError, match="cpu"):
        attention_with_mass(x, x, x, implementation="triton")


def test_the_interpreter_serves_only_a_process_of_its_own() -> None:
    x = torch.ones(1, 1, 8, 40)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        attention_with_mass(x, x, x, implementation="interpreter")


def test_the_cpu_needs_neither_triton_nor_diffusers() -> None:
    code = """
import sys
sys.modules["triton"] = sys.modules["diffusers"] = None
import torch
from myosotis_kernels.cross_attention import attention_with_mass, masses
x = torch.ones(1, 1, 8, 40, requires_grad=True)
o, mass = attention_with_mass(x, x, x)
(o.sum() + mass.sum()).backward()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reference_can_be_demanded() -> None:
    case = a_case()
    got = attention_with_mass(
        case.q, case.k, case.v, implementation="reference", **case.settings()
    )
    wanted = reference.naive(
        case.q,
        case.k,
        case.v,
        row_weight_BN=case.row_weight,
        key_bias_BL=case.key_bias,
    )
    for a, b in zip(got, wanted, strict=True):
        assert relative_error(a, b) < 1e-13
