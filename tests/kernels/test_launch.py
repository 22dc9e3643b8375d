"""What the launches do on the host, with kernels that do nothing."""

import pytest
import torch
from myosotis_kernels.cross_attention import kernel, launch, op, tiles
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode


class NoKernel:
    """Stands in for a compiled kernel and remembers its launches."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, ...]] = []
        self.inputs: list[object] = []

    def __getitem__(self, grid: tuple[int, ...]) -> "NoKernel":
        self.grids.append(grid)
        return self

    def __call__(self, *args: object, **kwargs: object) -> None:
        del kwargs
        self.inputs += args[:3]


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> dict[tiles.Kernel, NoKernel]:
    kernels = {which: NoKernel() for which in tiles.Kernel}
    for which, stand_in in kernels.items():
        monkeypatch.setattr(kernel, which.value, stand_in)
    return kernels


def layout(x: Tensor) -> tuple[object, ...]:
    return tuple(x.shape), x.stride(), x.dtype


@pytest.mark.parametrize("has_grad_o", [True, False])
def test_the_host_code_reads_no_value_and_keeps_the_promised_layout(
    nothing: dict[tiles.Kernel, NoKernel], *, has_grad_o: bool
) -> None:
    # Fake tensors have no values: a host sync would raise. The registered fakes promise
    # shapes and strides; here the launches meet them.
    with FakeTensorMode():
        q = torch.empty(2, 4096, 8, 40, dtype=torch.bfloat16).transpose(1, 2)
        k, v = torch.empty(2, 2, 77, 8, 40, dtype=torch.bfloat16).transpose(2, 3)
        small = (torch.empty(2, 4096), torch.empty(2, 77))
        got = launch.forward(q, k, v, *small, 2, 0.5)
        wanted = op._forward(q, k, v, *small, 2, 0.5, "triton")
        assert [layout(x) for x in got] == [layout(x) for x in wanted]
        grads = (torch.empty_like(q) if has_grad_o else None, torch.empty(2, 8, 77))
        inputs = (*grads, q, k, v, got[2], *small, 2, 0.5)
        found = launch.backward(*inputs)
        promised = op._backward(*inputs, "triton")
        for a, b in zip(found, promised, strict=True):
            if a is None:
                assert b.shape == (0,)
            else:
                assert layout(a) == layout(b)
        assert (found[2] is None) != has_grad_o
    # Strided as they are, the inputs reach the kernels without a copy.
    for stand_in in nothing.values():
        assert all(a is b for a, b in zip(stand_in.inputs, (q, k, v), strict=True))
    assert nothing[tiles.Kernel.FORWARD].grids == [(64, 16)]
    assert nothing[tiles.Kernel.GRAD_Q].grids == [(64, 16)]
    # 264 programs / (16 groups x 5 key tiles) = 4 splits.
    assert nothing[tiles.Kernel.GRAD_KV].grids == [(5, 4, 16)]


@pytest.mark.parametrize(
    ("groups", "key_tiles", "row_blocks", "wanted"),
    [
        (1, 1, 1, (1, 1)),
        (16, 5, 64, (4, 16)),
        (1, 5, 64, (64, 1)),
        (1, 5, 3, (3, 1)),
        (640, 5, 64, (1, 64)),
        (33, 2, 9, (3, 3)),
    ],
)
def test_rows_are_split_until_the_device_is_busy(
    groups: int, key_tiles: int, row_blocks: int, wanted: tuple[int, int]
) -> None:
    found = tiles.row_splits(groups=groups, key_tiles=key_tiles, row_blocks=row_blocks)
    assert found == wanted
    splits, blocks = found
    assert (splits - 1) * blocks < row_blocks <= splits * blocks
