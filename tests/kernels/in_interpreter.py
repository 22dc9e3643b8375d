"""The kernels themselves, in Triton's interpreter. Run by `test_interpreter.py`.

The interpreter needs `TRITON_INTERPRET=1` before triton is imported, hence a process of
its own. It runs programs one after the other and in full precision: what it cannot see
are races, TF32 and the cost. bf16 products are wrong in it, so bf16 is widened on load.
"""

# Shape letters are upper case, as in the kernels.
# ruff: noqa: N803, PLR0913, PLR0917

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from myosotis_kernels.cross_attention import (
    Implementation,
    attention_with_mass,
    op,
    reference,
    tiles,
)
from torch import Tensor

from tests.kernels.inputs import Case, a_case, relative_error

# Relative Frobenius error against fp64 of the same inputs. fp32: sums of up to 77 terms
# in another order. fp16: p, dS and the results are rounded, three times 2^-11 at most
# and about 2^-11.8 on average. bf16: the interpreter truncates instead of rounding, so
# twice the error of a GPU, for the one rounding of the result.
LIMITS = {torch.float32: 2e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}
MASS_LIMIT = 2e-6


@pytest.fixture(autouse=True)
def _nan_filled() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN, so that an unwritten element shows."""
    torch.use_deterministic_algorithms(mode=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(mode=False)


def run(
    leaves: list[Tensor],
    case: Case,
    power: int,
    implementation: Implementation | None = None,
) -> list[Tensor]:
    """Return output, mass and the gradients that exist, of naive by default."""
    if implementation is not None:
        # The reference in its place would agree all too well.
        assert op._choose(*leaves, implementation) == implementation
        outputs = attention_with_mass(
            *leaves, power=power, implementation=implementation, **case.settings()
        )
    else:
        outputs = reference.naive(
            *leaves,
            power=power,
            row_weight_BN=case.row_weight,
            key_bias_BL=case.key_bias,
        )
    pairs = [
        (o, g)
        for o, g in zip(outputs, (case.grad_o, case.grad_mass), strict=True)
        if g is not None
    ]
    used, grads = zip(*pairs, strict=True)
    grads = tuple(g.to(o.dtype) for o, g in pairs)
    found = torch.autograd.grad(used, leaves, grads, allow_unused=True)
    return [*outputs, *found]


def assert_agrees(case: Case, power: int = 2) -> None:
    got = run(case.leaves(), case, power, implementation="interpreter")
    wanted = run(case.leaves(torch.float64), case, power)
    names = ("o", "mass", "dq", "dk", "dv")
    for name, a, b in zip(names, got, wanted, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            limit = MASS_LIMIT if name == "mass" else LIMITS[case.q.dtype]
            assert relative_error(a, b) < limit, name


@pytest.mark.parametrize("dtype", list(LIMITS), ids=str)
@pytest.mark.parametrize(
    ("B", "H", "N", "L", "D"),
    [
        (1, 1, 1, 1, 32),  # one of everything
        (2, 2, 37, 13, 40),  # less than a tile in every direction
        (1, 2, 65, 77, 80),  # one row into the second block
        (2, 1, 64, 16, 64),  # exact tiles, no padding
        (1, 1, 33, 31, 128),
    ],
)
def test_every_dtype_on_odd_shapes(
    dtype: torch.dtype, B: int, H: int, N: int, L: int, D: int
) -> None:
    case = a_case(B, H, N, L, D, dtype=dtype)
    if L == 1:
        case = case.without("key_bias", "grad_mass")
        got = run(case.leaves(), case, 2, implementation="interpreter")
        # The only key gets all attention, so nothing depends on q and k.
        assert torch.equal(got[0], case.v.expand_as(got[0]))
        assert not got[2].any()
        assert not got[3].any()
        return
    assert_agrees(case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_widest_head(dtype: torch.dtype) -> None:
    assert_agrees(a_case(1, 1, 30, 20, 160, dtype=dtype))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    "absent",
    [("row_weight",), ("key_bias",), ("grad_o",), ("grad_mass",),
     ("row_weight", "key_bias", "grad_o"), ("row_weight", "key_bias", "grad_mass")],
)  # fmt: skip
def test_each_specialisation(power: int, absent: tuple[str, ...]) -> None:
    assert_agrees(a_case(2, 1, 37, 21, 40, dtype=torch.float32).without(*absent), power)


def test_one_text_may_serve_a_whole_batch() -> None:
    case = a_case(3, 2, 20, 17, 32, dtype=torch.float32)
    one = {"k": case.k[:1].expand_as(case.k), "v": case.v[:1].expand_as(case.v)}
    assert_agrees(replace(case, **one))


def test_many_keys() -> None:
    assert_agrees(a_case(1, 1, 20, 512, 32, dtype=torch.float32))


def test_many_rows_are_split_and_summed() -> None:
    # 5 key tiles and 1 head ask for 64 splits; 11 row blocks give 11 of one block.
    assert_agrees(a_case(1, 1, 345, 77, 32, dtype=torch.float32))


def test_a_split_may_hold_several_blocks_and_end_beyond_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 4 programs / 2 key tiles = 2 splits of 3 row blocks each, where there are only 5.
    monkeypatch.setattr(tiles, "ENOUGH_PROGRAMS", 4)
    assert tiles.row_splits(groups=1, key_tiles=2, row_blocks=5) == (2, 3)
    assert_agrees(a_case(1, 1, 140, 17, 32, dtype=torch.float32))


def test_a_sample_without_keys_is_zero() -> None:
    case = a_case(2, 1, 19, 17, 32, dtype=torch.float32)
    assert case.key_bias is not None
    case.key_bias[1] = -torch.inf
    got = run(case.leaves(), case, 2, implementation="interpreter")
    for x in got:
        assert x.isfinite().all()
        assert x[0].any()
        assert not x[1].any()


@pytest.mark.parametrize("large", [0, 1], ids=["queries", "keys"])
def test_tiny_gradients_of_the_scores_survive_fp16(large: int) -> None:
    # The gradient of the scores is about 1e-7, where fp16 has a bit or two. Multiplied
    # by large keys (or queries) it gives gradients that fp16 can hold.
    case = a_case(1, 1, 37, 13, 40, dtype=torch.float16)
    factors = [2.0**-10, 2.0**-10, 1.0]
    factors[large] = 2.0**10

    def gradient(dtype: torch.dtype, implementation: Implementation) -> Tensor:
        leaves = [
            (x * factor).detach().requires_grad_()
            for x, factor in zip(case.leaves(dtype), factors, strict=True)
        ]
        _, mass = attention_with_mass(
            *leaves, implementation=implementation, **case.settings()
        )
        grads = torch.autograd.grad(mass, leaves[:2], case.grad_mass.to(mass) * 1e-5)
        return grads[1 - large]

    got = gradient(torch.float16, "interpreter")
    wanted = gradient(torch.float64, "reference")
    assert relative_error(got, wanted) < LIMITS[torch.float16]


@pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning")
def test_a_nan_is_not_swallowed() -> None:
    case = a_case(1, 1, 20, 17, 32, dtype=torch.float32)
    case.q[0, 0, 3, 5] = torch.nan
    o, mass = attention_with_mass(case.q, case.k, case.v, implementation="interpreter")
    assert o[0, 0, 3].isnan().all()
    assert not o[0, 0, 4].isnan().any()
    assert mass.isnan().all()


def test_large_scores_do_not_overflow() -> None:
    case = a_case(1, 1, 20, 17, 32, dtype=torch.float32)
    case.q.mul_(1e3)
    got = run(case.leaves(), case, 2, implementation="interpreter")
    wanted = run(case.leaves(torch.float64), case, 2)
    # Scores of 5000 in fp32 are off by 3e-4, and so are the probabilities.
    for a, b in zip(got[:2], wanted[:2], strict=True):
        assert relative_error(a, b) < 2e-3
    assert all(x.isfinite().all() for x in got)


def test_an_expanded_gradient_is_accepted() -> None:
    case = a_case(1, 2, 20, 17, 32, dtype=torch.float32)
    leaves = case.leaves()
    o, mass = attention_with_mass(*leaves, implementation="interpreter")
    # The gradient of a sum has stride 0 everywhere.
    grads = torch.autograd.grad(o.sum() + mass.sum(), leaves)
    wide = case.leaves(torch.float64)
    o, mass = reference.naive(*wide)
    for a, b in zip(
        grads, torch.autograd.grad(o.sum() + mass.sum(), wide), strict=True
    ):
        assert relative_error(a, b) < LIMITS[torch.float32]


def test_twice_the_same_bits() -> None:
    case = a_case(1, 2, 70, 33, 40, dtype=torch.float32)
    first, second = (
        run(case.leaves(), case, 2, implementation="interpreter") for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_the_default_is_never_the_interpreter() -> None:
    case = a_case(1, 1, 20, 17, 32, dtype=torch.float32)
    got = attention_with_mass(case.q, case.k, case.v)
    wanted = attention_with_mass(case.q, case.k, case.v, implementation="reference")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_the_operator_passes_opcheck() -> None:
    case = a_case(1, 2, 20, 17, 32, dtype=torch.float32)
    args = (*case.leaves(), case.row_weight, case.key_bias, 2, 0.5, "interpreter")
    torch.library.opcheck(torch.ops.myosotis_kernels.attention_with_mass.default, args)
