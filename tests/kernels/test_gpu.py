"""The kernels on a device. `pytest -m gpu`; skipped where there is none."""

from collections.abc import Callable, Iterator

import pytest
import torch
from myosotis_kernels.cross_attention import (
    FastPathWarning,
    attention_with_mass,
    reference,
    why_not,
)
from myosotis_kernels.cross_attention.masses import AttentionMasses
from torch import Tensor

from tests.kernels import test_processor
from tests.kernels.inputs import Case, a_case, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]

WIDTHS = (32, 40, 64, 80, 128, 160)
ROWS = (1, 63, 64, 65, 4096)
KEYS = (1, 13, 77, 154, 231, 512)
# Every width, number of rows and number of keys occurs, not every combination.
SHAPES = [
    *((65, 77, width) for width in WIDTHS),
    *((rows, 77, 64) for rows in ROWS),
    *((65, keys, 40) for keys in KEYS),
    (4096, 77, 40),
    (256, 512, 160),
]


@pytest.fixture(autouse=True)
def _exact_baseline() -> Iterator[None]:
    """Keep TF32 out of what we compare with."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def run(
    function: Callable[..., tuple[Tensor, Tensor]],
    leaves: list[Tensor],
    case: Case,
    **settings: object,
) -> list[Tensor | None]:
    outputs = function(*leaves, **settings)
    pairs = [
        (o, g.to(o.dtype))
        for o, g in zip(outputs, (case.grad_o, case.grad_mass), strict=True)
        if g is not None
    ]
    used, grads = zip(*pairs, strict=True)
    return [*outputs, *torch.autograd.grad(used, leaves, grads, allow_unused=True)]


def ours(case: Case) -> list[Tensor | None]:
    settings = {**case.settings(), "implementation": "triton"}
    # Uninitialised tensors are filled with NaN: an element never written would show.
    torch.use_deterministic_algorithms(mode=True)
    try:
        assert torch.empty(1, device="cuda").isnan()
        return run(attention_with_mass, case.leaves(), case, **settings)
    finally:
        torch.use_deterministic_algorithms(mode=False)


def truth(case: Case) -> list[Tensor | None]:
    settings = {"row_weight_BN": case.row_weight, "key_bias_BL": case.key_bias}
    return run(reference.naive, case.leaves(torch.float64), case, **settings)


def pytorch(case: Case) -> list[Tensor | None]:
    """The naive form computed throughout in the input's own dtype."""

    def naive(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if case.key_bias is not None:
            scores = scores + case.key_bias[:, None, None, :].to(q.dtype)
        p = scores.softmax(dim=-1)
        mass = p.square()
        if case.row_weight is not None:
            mass = mass * case.row_weight[:, None, :, None].to(q.dtype)
        return p @ v, mass.sum(dim=2)

    return run(naive, case.leaves(), case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_worse_than_twice_the_error_of_pytorch(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    case = a_case(2, 3, *shape, dtype=dtype, device="cuda")
    if shape[1] == 1:
        case = case.without("key_bias")
    names = ("o", "mass", "dq", "dk", "dv")
    factors = (2, 2, 3, 3, 3)
    unit = torch.finfo(dtype).eps
    for name, factor, a, b, t in zip(
        names, factors, ours(case), pytorch(case), truth(case), strict=True
    ):
        assert a is not None
        assert b is not None
        assert t is not None
        # The floor: one rounding of the largest element, where PyTorch is exact.
        limit = factor * (b.double() - t).norm() + unit * t.abs().max()
        assert (a.double() - t).norm() <= limit, name


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2] <= 128], ids=str)
def test_fp32_is_fp32_and_not_tf32(shape: tuple[int, int, int]) -> None:
    case = a_case(2, 3, *shape, dtype=torch.float32, device="cuda")
    if shape[1] == 1:
        # One key: nothing depends on q and k, a relative error has no meaning.
        case = case.without("key_bias")
        for a, b in zip(ours(case), truth(case), strict=True):
            torch.testing.assert_close(a.double(), b, rtol=5e-6, atol=5e-5)
        return
    for a, b in zip(ours(case), truth(case), strict=True):
        assert relative_error(a, b) < 5e-6


@pytest.mark.parametrize("absent", ["grad_o", "grad_mass", "row_weight", "key_bias"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_each_specialisation(absent: str, dtype: torch.dtype) -> None:
    case = a_case(2, 3, 200, 77, 64, dtype=dtype, device="cuda").without(absent)
    for a, b in zip(ours(case), truth(case), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert relative_error(a, b) < 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_twice_the_same_bits(dtype: torch.dtype) -> None:
    case = a_case(4, 8, 4096, 77, 40, dtype=dtype, device="cuda")
    for a, b in zip(ours(case), ours(case), strict=True):
        assert torch.equal(a, b)


def test_the_fast_path_is_the_default() -> None:
    case = a_case(1, 2, 64, 77, 64, dtype=torch.bfloat16, device="cuda")
    assert why_not(case.q, case.k, case.v) is None
    got = attention_with_mass(case.q, case.k, case.v)
    wanted = attention_with_mass(case.q, case.k, case.v, implementation="triton")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_leaving_the_fast_path_says_so() -> None:
    case = a_case(1, 2, 64, 77, 24, dtype=torch.bfloat16, device="cuda")
    with pytest.warns(FastPathWarning, match="width 24"):
        got = attention_with_mass(case.q, case.k, case.v)
    wanted = reference.naive(case.q.double(), case.k.double(), case.v.double())
    assert relative_error(got[0], wanted[0]) < torch.finfo(torch.bfloat16).eps


def test_it_compiles_without_a_graph_break() -> None:
    case = a_case(1, 2, 64, 77, 64, dtype=torch.bfloat16, device="cuda")

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o, mass = attention_with_mass(q, k, v)
        return o.float().square().mean() + mass.sum().sqrt()

    eager, traced = case.leaves(), case.leaves()
    wanted = torch.autograd.grad(loss(*eager), eager)
    compiled = torch.compile(loss, fullgraph=True)
    for a, b in zip(
        torch.autograd.grad(compiled(*traced), traced), wanted, strict=True
    ):
        assert relative_error(a, b) < 0.01


def test_a_whole_step_runs_as_a_graph_and_without_a_sync() -> None:
    unet = test_processor.a_unet().cuda()
    parameters = list(test_processor.train_cross_attention(unet).values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, capturable=True, fused=True)
    inputs = {k: v.cuda() for k, v in test_processor.some_inputs().items()}
    mask = test_processor.a_mask().cuda()

    with AttentionMasses(unet) as masses:

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = test_processor.resteering_loss(masses.forward(**inputs), mask)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            return loss

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
        graph.replay()
        first = loss.item()
        for _ in range(5):
            graph.replay()
        assert loss.item() < first
