"""Device code of cross-attention with attention mass (Triton), nothing else.

Three kernels, each over (row block or key tile, batch x heads):

- `forward_kernel`: pass 1 over the keys gives the log-sum-exp of each row, pass 2
  gives the output and this row block's share of the mass;
- `grad_q_kernel`: pass 1 gives `delta` of each row, pass 2 the gradient of the queries;
- `grad_kv_kernel`: one key tile against one split of the rows.

The mathematics is derived in the README beside this file. Loop bounds are compile-time
constants throughout: the interpreter cannot run a bound that is a tensor.

Legend: B batch, H heads, N image rows, L text keys, D head width, DP the power of two
above it, BM rows per block, TL keys per tile.
"""

# Triton gives the arguments their types, branches on compile-time constants decide
# what is compiled, and a kernel is called with many arguments.
# ruff: noqa: ANN001, ANN201, ANN202, E741, PLR0917, PLR2004, RET505, SIM108
# mypy: ignore-errors

import triton
import triton.language as tl

# Exponents of fp32 live in bits 23 to 30. The largest one is left out so that the
# reciprocal of a power of two is never the subnormal 2^-127.
_EXPONENT = tl.constexpr(0x7F800000)
_LARGEST = tl.constexpr(0x7E800000)
_ONE_TWICE = tl.constexpr(0x7F000000)


@triton.jit
def _load_tile(
    base, rows, stride, limit, D: tl.constexpr, DP: tl.constexpr, UPCAST: tl.constexpr
):
    """Load rows of width D, zeros beyond the limit and beyond the width."""
    columns = tl.arange(0, DP)
    tile = tl.load(
        base + rows[:, None] * stride + columns[None, :],
        mask=(rows[:, None] < limit) & (columns[None, :] < D),
        other=0.0,
    )
    if UPCAST:
        # The interpreter multiplies the bit patterns of bf16.
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def _store_tile(base, rows, stride, limit, tile, D: tl.constexpr, DP: tl.constexpr):
    columns = tl.arange(0, DP)
    tl.store(
        base + rows[:, None] * stride + columns[None, :],
        tile.to(base.dtype.element_ty),
        mask=(rows[:, None] < limit) & (columns[None, :] < D),
    )


@triton.jit
def _scores(
    q, k, keys, L, BIAS, scale_log2, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr
):
    """Scores of one tile in units of log2, -inf beyond the last key."""
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_log2
    if HAS_BIAS:
        bias = tl.load(BIAS + keys, mask=keys < L, other=0.0)
        s += bias[None, :] * 1.4426950408889634
    return tl.where(keys[None, :] < L, s, float("-inf"))


@triton.jit
def _power_of_two_below(x):
    """Return the power of two at or below x > 0 and its reciprocal.

    Zero gives (0, 2^127): whatever is multiplied by the one and then by the other
    stays zero.
    """
    bits = x.to(tl.int32, bitcast=True) & _EXPONENT
    bits = tl.minimum(bits, _LARGEST)
    down = (-bits + _ONE_TWICE).to(tl.float32, bitcast=True)
    up = bits.to(tl.float32, bitcast=True)
    return up, down


@triton.jit
def _dot_scaled(a, b, SCALED: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply fp32 a by b in b's precision.

    With SCALED each row of a is brought to a magnitude of one by a power of two
    before the cast: gradients of 1e-6 would be subnormal in fp16. The scaling itself
    is exact.
    """
    if SCALED:
        up, down = _power_of_two_below(tl.max(tl.abs(a), axis=1))
        product = tl.dot((a * down[:, None]).to(b.dtype), b, input_precision=PRECISION)
        return product * up[:, None]
    else:
        return tl.dot(a.to(b.dtype), b, input_precision=PRECISION)


@triton.jit
def _grad_p(
    p,
    do,
    v,
    r,
    DA,
    keys,
    L,
    POWER: tl.constexpr,
    HAS_DO: tl.constexpr,
    HAS_DA: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of the loss with respect to the probabilities of one tile."""
    if HAS_DO:
        g = tl.dot(do, tl.trans(v), input_precision=PRECISION)
    else:
        g = tl.zeros_like(p)
    if HAS_DA:
        da = tl.load(DA + keys, mask=keys < L, other=0.0)
        share = r[:, None] * da[None, :]
        if POWER == 2:
            g += 2.0 * share * p
        else:
            g += share
    return g


@triton.jit
def _row_weights(R, rows, N, HAS_R: tl.constexpr):
    if HAS_R:
        return tl.load(R + rows, mask=rows < N, other=0.0)
    else:
        return tl.where(rows < N, 1.0, 0.0)


@triton.jit
def forward_kernel(
    Q,
    K,
    V,
    R,
    BIAS,
    O,
    LSE,
    PART,
    q_b,
    q_h,
    q_n,
    k_b,
    k_h,
    k_l,
    v_b,
    v_h,
    v_l,
    o_b,
    o_h,
    o_n,
    r_b,
    bias_b,
    H,
    N,
    L,
    scale_log2,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    TL: tl.constexpr,
    TILES: tl.constexpr,
    POWER: tl.constexpr,
    HAS_R: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Write O, the log-sum-exp (log2 units) and one row of partial masses.

    PART is [B*H, row blocks, L]: the sum over row blocks is the mass.
    A row whose keys are all masked stores a log-sum-exp of +inf, so that its
    probabilities are exp2(-inf) = 0 here and in both backward kernels.
    """
    block = tl.program_id(0)
    head = tl.program_id(1)
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    rows = block * BM + tl.arange(0, BM)
    Q += b * q_b + h * q_h
    K += b * k_b + h * k_h
    V += b * v_b + h * v_h
    O += b * o_b + h * o_h
    if HAS_BIAS:
        BIAS += b * bias_b
    if HAS_R:
        R += b * r_b
    LSE += head.to(tl.int64) * N
    PART += (head.to(tl.int64) * tl.num_programs(0) + block) * L

    q = _load_tile(Q, rows, q_n, N, D, DP, UPCAST)
    r = _row_weights(R, rows, N, HAS_R)

    top = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    for tile in range(TILES):
        keys = tile * TL + tl.arange(0, TL)
        k = _load_tile(K, keys, k_l, L, D, DP, UPCAST)
        s = _scores(q, k, keys, L, BIAS, scale_log2, HAS_BIAS, PRECISION)
        higher = tl.maximum(top, tl.max(s, axis=1))
        level = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp2(top - level) + tl.sum(
            tl.exp2(s - level[:, None]), axis=1
        )
        top = higher
    is_dead = total == 0.0
    lse = tl.where(is_dead, float("inf"), top + tl.log2(tl.where(is_dead, 1.0, total)))
    tl.store(LSE + rows, lse, mask=rows < N)

    o = tl.zeros([BM, DP], tl.float32)
    for tile in range(TILES):
        keys = tile * TL + tl.arange(0, TL)
        k = _load_tile(K, keys, k_l, L, D, DP, UPCAST)
        v = _load_tile(V, keys, v_l, L, D, DP, UPCAST)
        s = _scores(q, k, keys, L, BIAS, scale_log2, HAS_BIAS, PRECISION)
        p = tl.exp2(s - lse[:, None])
        o += tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
        if POWER == 2:
            share = tl.sum(p * p * r[:, None], axis=0)
        else:
            share = tl.sum(p * r[:, None], axis=0)
        tl.store(PART + keys, share, mask=keys < L)
    _store_tile(O, rows, o_n, N, o, D, DP)


@triton.jit
def grad_q_kernel(
    Q,
    K,
    V,
    R,
    BIAS,
    LSE,
    DO,
    DA,
    DQ,
    DELTA,
    q_b,
    q_h,
    q_n,
    k_b,
    k_h,
    k_l,
    v_b,
    v_h,
    v_l,
    do_b,
    do_h,
    do_n,
    dq_b,
    dq_h,
    dq_n,
    r_b,
    bias_b,
    H,
    N,
    L,
    scale,
    scale_log2,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    TL: tl.constexpr,
    TILES: tl.constexpr,
    POWER: tl.constexpr,
    HAS_R: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_DO: tl.constexpr,
    HAS_DA: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Write the gradient of the queries, and delta for `grad_kv_kernel`."""
    block = tl.program_id(0)
    head = tl.program_id(1)
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    rows = block * BM + tl.arange(0, BM)
    Q += b * q_b + h * q_h
    K += b * k_b + h * k_h
    DQ += b * dq_b + h * dq_h
    if HAS_BIAS:
        BIAS += b * bias_b
    if HAS_R:
        R += b * r_b
    LSE += head.to(tl.int64) * N
    DELTA += head.to(tl.int64) * N

    q = _load_tile(Q, rows, q_n, N, D, DP, UPCAST)
    lse = tl.load(LSE + rows, mask=rows < N, other=float("inf"))
    r = _row_weights(R, rows, N, HAS_R)
    if HAS_DO:
        V += b * v_b + h * v_h
        DO += b * do_b + h * do_h
        do = _load_tile(DO, rows, do_n, N, D, DP, UPCAST)
    else:
        do = q
    if HAS_DA:
        DA += head.to(tl.int64) * L

    delta = tl.zeros([BM], tl.float32)
    for tile in range(TILES):
        keys = tile * TL + tl.arange(0, TL)
        k = _load_tile(K, keys, k_l, L, D, DP, UPCAST)
        if HAS_DO:
            v = _load_tile(V, keys, v_l, L, D, DP, UPCAST)
        else:
            v = k
        s = _scores(q, k, keys, L, BIAS, scale_log2, HAS_BIAS, PRECISION)
        p = tl.exp2(s - lse[:, None])
        g = _grad_p(p, do, v, r, DA, keys, L, POWER, HAS_DO, HAS_DA, PRECISION)
        delta += tl.sum(p * g, axis=1)
    tl.store(DELTA + rows, delta, mask=rows < N)

    dq = tl.zeros([BM, DP], tl.float32)
    for tile in range(TILES):
        keys = tile * TL + tl.arange(0, TL)
        k = _load_tile(K, keys, k_l, L, D, DP, UPCAST)
        if HAS_DO:
            v = _load_tile(V, keys, v_l, L, D, DP, UPCAST)
        else:
            v = k
        s = _scores(q, k, keys, L, BIAS, scale_log2, HAS_BIAS, PRECISION)
        p = tl.exp2(s - lse[:, None])
        g = _grad_p(p, do, v, r, DA, keys, L, POWER, HAS_DO, HAS_DA, PRECISION)
        dq += _dot_scaled(p * (g - delta[:, None]), k, SCALED, PRECISION)
    _store_tile(DQ, rows, dq_n, N, dq * scale, D, DP)


@triton.jit
def grad_kv_kernel(
    Q,
    K,
    V,
    R,
    BIAS,
    LSE,
    DELTA,
    DO,
    DA,
    DK,
    DV,
    q_b,
    q_h,
    q_n,
    k_b,
    k_h,
    k_l,
    v_b,
    v_h,
    v_l,
    do_b,
    do_h,
    do_n,
    r_b,
    bias_b,
    H,
    N,
    L,
    scale,
    scale_log2,
    D: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    TL: tl.constexpr,
    BLOCKS: tl.constexpr,
    POWER: tl.constexpr,
    HAS_R: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_DO: tl.constexpr,
    HAS_DA: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Write one split's fp32 share of the gradients of keys and values.

    DK and DV are [B*H, splits, L, D]; the sum over splits is taken outside, so that
    the result does not depend on the order in which programs run. Without DO there is
    no gradient of the values and DV is not touched.
    """
    tile = tl.program_id(0)
    split = tl.program_id(1)
    head = tl.program_id(2)
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    keys = tile * TL + tl.arange(0, TL)
    Q += b * q_b + h * q_h
    K += b * k_b + h * k_h
    if HAS_BIAS:
        BIAS += b * bias_b
    if HAS_R:
        R += b * r_b
    LSE += head.to(tl.int64) * N
    DELTA += head.to(tl.int64) * N
    part = (head.to(tl.int64) * tl.num_programs(1) + split) * L * D

    k = _load_tile(K, keys, k_l, L, D, DP, UPCAST)
    dk = tl.zeros([TL, DP], tl.float32)
    if HAS_DO:
        V += b * v_b + h * v_h
        DO += b * do_b + h * do_h
        v = _load_tile(V, keys, v_l, L, D, DP, UPCAST)
        dv = tl.zeros([TL, DP], tl.float32)
    else:
        v = k
    if HAS_DA:
        DA += head.to(tl.int64) * L

    for i in range(BLOCKS):
        rows = (split * BLOCKS + i) * BM + tl.arange(0, BM)
        q = _load_tile(Q, rows, q_n, N, D, DP, UPCAST)
        # Beyond the last row the probabilities are exp2(-inf) = 0.
        lse = tl.load(LSE + rows, mask=rows < N, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < N, other=0.0)
        r = _row_weights(R, rows, N, HAS_R)
        if HAS_DO:
            do = _load_tile(DO, rows, do_n, N, D, DP, UPCAST)
        else:
            do = q
        s = _scores(q, k, keys, L, BIAS, scale_log2, HAS_BIAS, PRECISION)
        p = tl.exp2(s - lse[:, None])
        g = _grad_p(p, do, v, r, DA, keys, L, POWER, HAS_DO, HAS_DA, PRECISION)
        ds = p * (g - delta[:, None])
        dk += _dot_scaled(tl.trans(ds), q, SCALED, PRECISION)
        if HAS_DO:
            dv += tl.dot(tl.trans(p).to(do.dtype), do, input_precision=PRECISION)
    _store_tile(DK + part, keys, D, L, dk * scale, D, DP)
    if HAS_DO:
        _store_tile(DV + part, keys, D, L, dv, D, DP)
