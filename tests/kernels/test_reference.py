# Shape letters are upper case, as in the kernels.
# ruff: noqa: N803

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from myosotis_kernels.cross_attention import attention_with_mass, reference
from torch import Tensor

from tests.kernels.inputs import Case, a_case, relative_error

# fp64 sums of a few hundred terms: the order of summation costs some 1e-15.
EXACT = 1e-13

CHUNK_OF_THREE_ROWS = 3 * 2 * 7 * 8


@pytest.fixture(params=["kept", "chunked"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one of the two CPU paths, the second with several blocks per sample."""
    if request.param == "chunked":
        monkeypatch.setattr("myosotis_kernels.cross_attention.op.KEEP_BYTES", 0)
        monkeypatch.setattr(reference, "CHUNK_BYTES", CHUNK_OF_THREE_ROWS)
    return request.param


def gradients(
    outputs: tuple[Tensor, Tensor], leaves: list[Tensor], case: Case
) -> list[Tensor | None]:
    pairs = [
        (o, g)
        for o, g in zip(outputs, (case.grad_o, case.grad_mass), strict=True)
        if g is not None
    ]
    used, grads = zip(*pairs, strict=True)
    return list(torch.autograd.grad(used, leaves, grads, allow_unused=True))


def assert_agrees_with_naive(case: Case, power: int, limit: float = EXACT) -> None:
    ours, theirs = case.leaves(), case.leaves(torch.float64)
    got = attention_with_mass(*ours, power=power, **case.settings())
    wanted = reference.naive(
        *theirs,
        power=power,
        row_weight_BN=case.row_weight,
        key_bias_BL=case.key_bias,
    )
    for a, b in zip(got, wanted, strict=True):
        assert relative_error(a, b) < limit
    pairs = zip(
        gradients(got, ours, case), gradients(wanted, theirs, case), strict=True
    )
    for a, b in pairs:
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert relative_error(a, b) < limit


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    "absent",
    [(), ("row_weight",), ("key_bias",), ("grad_o",), ("grad_mass",),
     ("row_weight", "key_bias", "grad_o")],
)  # fmt: skip
def test_the_closed_form_agrees_with_autograd_of_the_naive_form(
    power: int, absent: tuple[str, ...]
) -> None:
    assert_agrees_with_naive(a_case().without(*absent), power)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("output", [0, 1])
def test_gradients_agree_with_finite_differences(power: int, output: int) -> None:
    case = a_case(1, 2, 5, 4, 3)

    def function(*qkv: Tensor) -> Tensor:
        return attention_with_mass(*qkv, power=power, **case.settings())[output]

    assert torch.autograd.gradcheck(function, case.leaves(), fast_mode=False)


@pytest.mark.usefixtures("path")
def test_mass_and_output_by_hand() -> None:
    q = torch.zeros(1, 1, 3, 2)
    k = torch.zeros(1, 1, 2, 2)
    v = torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]])
    bias = torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    weight = torch.tensor([[1.0, 2.0, 0.0]])
    # The probabilities of every row are 1/4 and 3/4; the weights sum to 3.
    o, mass = attention_with_mass(q, k, v, key_bias=bias, row_weight=weight)
    torch.testing.assert_close(o, torch.tensor([1.0, 6.0]).expand(1, 1, 3, 2))
    torch.testing.assert_close(mass, torch.tensor([[[3 / 16, 27 / 16]]]))
    _, mass = attention_with_mass(q, k, v, key_bias=bias, row_weight=weight, power=1)
    torch.testing.assert_close(mass, torch.tensor([[[3 / 4, 9 / 4]]]))


@pytest.mark.usefixtures("path")
def test_a_sample_without_keys_has_no_attention_and_no_gradient() -> None:
    case = a_case()
    bias = case.key_bias
    assert bias is not None
    bias[1] = -torch.inf
    leaves = case.leaves()
    o, mass = attention_with_mass(*leaves, **case.settings())
    grads = torch.autograd.grad((o, mass), leaves, (case.grad_o, case.grad_mass))
    assert not o[1].any()
    assert not mass[1].any()
    for grad in grads:
        assert grad.isfinite().all()
        assert grad[0].any()
        assert not grad[1].any()


@pytest.mark.usefixtures("path")
def test_a_masked_key_gets_no_attention() -> None:
    case = a_case()
    leaves = case.leaves()
    o, mass = attention_with_mass(*leaves, **case.settings())
    (grad_v,) = torch.autograd.grad(o.sum(), leaves[2:])
    assert not mass[0, :, 0].any()
    assert mass[1, :, 0].all()
    assert not grad_v[0, :, 0].any()


@given(
    B=st.integers(1, 4),
    H=st.integers(1, 3),
    N=st.integers(1, 40),
    L=st.integers(1, 20),
    chunk=st.integers(1, 4000),
)
def test_blocks_cover_each_row_once_within_the_budget(
    B: int, H: int, N: int, L: int, chunk: int
) -> None:
    seen = torch.zeros(B, N)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "CHUNK_BYTES", chunk)
        for b, n in reference.blocks(B, H, N, L, 4):
            part = seen[b, n]
            part += 1
            assert part.numel() * H * L * 4 <= max(chunk, H * L * 4)
    assert (seen == 1).all()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(
        st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
        st.integers(1, 9),
    ),
    power=st.sampled_from([1, 2]),
    chunk=st.sampled_from([1, 300, 10**9]),
)  # fmt: skip
def test_any_shape_agrees_in_any_chunking(
    shape: tuple[int, ...], power: int, chunk: int
) -> None:
    case = a_case(*shape)
    if shape[3] == 1:
        # The single key of sample 0 is masked: zero, where naive agrees too.
        case = case.without("key_bias")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("myosotis_kernels.cross_attention.op.KEEP_BYTES", 0)
        patch.setattr(reference, "CHUNK_BYTES", chunk)
        ours, theirs = case.leaves(), case.leaves()
        got = attention_with_mass(*ours, power=power, **case.settings())
        wanted = reference.naive(
            *theirs,
            power=power,
            row_weight_BN=case.row_weight,
            key_bias_BL=case.key_bias,
        )
        pairs = zip(
            (*got, *gradients(got, ours, case)),
            (*wanted, *gradients(wanted, theirs, case)),
            strict=True,
        )
        for a, b in pairs:
            assert a is not None
            assert b is not None
            # Absolute too: with one key the gradients of q and k are exactly zero.
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("dtype", "unit"),
    # Half the distance from 1 to the next number: one rounding, at the output.
    [(torch.float32, 2**-24), (torch.float16, 2**-11), (torch.bfloat16, 2**-8)],
)
def test_low_precision_is_rounded_once(dtype: torch.dtype, unit: float) -> None:
    case = a_case(dtype=dtype)
    ours, theirs = case.leaves(), case.leaves(torch.float64)
    o, mass = attention_with_mass(*ours, **case.settings())
    wanted_o, wanted_mass = reference.naive(
        *theirs, row_weight_BN=case.row_weight, key_bias_BL=case.key_bias
    )
    assert (o.dtype, mass.dtype) == (dtype, torch.float32)
    # fp32 arithmetic leaves some 4e-7 of its own.
    assert relative_error(o, wanted_o) < unit + 4e-7
    assert relative_error(mass, wanted_mass) < 4e-7
    grads = torch.autograd.grad((o, mass), ours, (case.grad_o, case.grad_mass))
    wanted = torch.autograd.grad(
        (wanted_o, wanted_mass), theirs, (case.grad_o.double(), case.grad_mass.double())
    )
    for a, b in zip(grads, wanted, strict=True):
        assert a.dtype == dtype
        assert relative_error(a, b) < unit + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_naive_form_is_rounded_once_too(dtype: torch.dtype) -> None:
    case = a_case(dtype=dtype)
    o, mass = reference.naive(case.q, case.k, case.v)
    wanted_o, wanted_mass = reference.naive(*case.leaves(torch.float64))
    assert (o.dtype, mass.dtype) == (dtype, torch.float32)
    assert relative_error(o, wanted_o) < torch.finfo(dtype).eps / 2 + 4e-7
    assert relative_error(mass, wanted_mass) < 4e-7
