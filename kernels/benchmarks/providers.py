"""Ways to compute attention and the mass of a few concept tokens.

Every provider maps q, k, v and a concept to

    O [B, H, N, D]    T [B, H] = sum over image rows and columns of p^2

Legend: B batch, H heads, N image rows, L text keys, D head width, M columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from myosotis_kernels.cross_attention import attention_with_mass
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import AuxRequest, flex_attention


@dataclass(frozen=True)
class Concept:
    """Which keys belong to the concept, in the form that each provider wants.

    `columns` are neighbours. `mask` is [L], 1 at the columns. `one_hot` is [L, M], M
    the number of columns filled up with zeros so that D + M is a multiple of eight.
    """

    columns: range
    mask: Tensor
    one_hot: Tensor

    @classmethod
    def of(cls, columns: range, *, keys: int, width: int, device: str) -> "Concept":
        """Build the tensors once; a training step has them before it starts."""
        mask = torch.zeros(keys, device=device)
        mask[columns.start : columns.stop] = 1
        filled = -(-(width + len(columns)) // 8) * 8 - width
        one_hot = torch.zeros(keys, filled, device=device)
        for i, column in enumerate(columns):
            one_hot[column, i] = 1
        return cls(columns, mask, one_hot)


Provider: TypeAlias = Callable[[Tensor, Tensor, Tensor, Concept], tuple[Tensor, Tensor]]


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Materialise [B*H, N, L] as diffusers does without a fused attention."""
    B, H, N, D = q.shape
    return torch.baddbmm(
        q.new_empty(1, 1, 1),
        q.reshape(B * H, N, D),
        k.reshape(B * H, -1, D).mT,
        beta=0,
        alpha=D**-0.5,
    ).softmax(dim=-1)


def published(
    q: Tensor, k: Tensor, v: Tensor, concept: Concept
) -> tuple[Tensor, Tensor]:
    """The published form: a boolean mask as large as the probabilities, masked_select.

    Its result is one vector per layer; here it is folded to T to be comparable, which
    costs it a view and a sum.
    """
    B, H, N, D = q.shape
    p = probabilities(q, k)
    o = torch.bmm(p, v.reshape(B * H, -1, D)).view(B, H, N, D)
    selected = p.masked_select(concept.mask.bool().expand_as(p))
    return o, selected.view(B, H, -1).square().sum(dim=-1)


def naive(q: Tensor, k: Tensor, v: Tensor, concept: Concept) -> tuple[Tensor, Tensor]:
    """Materialised probabilities, mass of every key, no masked_select and no sync."""
    B, H, N, D = q.shape
    p = probabilities(q, k)
    o = torch.bmm(p, v.reshape(B * H, -1, D)).view(B, H, N, D)
    mass = p.square().sum(dim=1).view(B, H, -1)
    return o, (mass * concept.mask).sum(dim=-1)


def ours(q: Tensor, k: Tensor, v: Tensor, concept: Concept) -> tuple[Tensor, Tensor]:
    """`attention_with_mass`."""
    o, mass = attention_with_mass(q, k, v)
    return o, (mass * concept.mask).sum(dim=-1)


def augmented(
    q: Tensor, k: Tensor, v: Tensor, concept: Concept
) -> tuple[Tensor, Tensor]:
    """SDPA whose values carry one-hot columns: the probabilities come out beside O."""
    D = v.shape[-1]
    o = functional.scaled_dot_product_attention(
        q, k, _with_one_hot(v, concept), scale=D**-0.5
    )
    return o[..., :D], o[..., D:].float().square().sum(dim=(2, 3))


def augmented_padded(
    q: Tensor, k: Tensor, v: Tensor, concept: Concept
) -> tuple[Tensor, Tensor]:
    """The same with queries and keys padded alike, as flash attention demands."""
    D = v.shape[-1]
    wide = _with_one_hot(v, concept)
    padding = (0, wide.shape[-1] - D)
    o = functional.scaled_dot_product_attention(
        functional.pad(q, padding), functional.pad(k, padding), wide, scale=D**-0.5
    )
    return o[..., :D], o[..., D:].float().square().sum(dim=(2, 3))


def _with_one_hot(v: Tensor, concept: Concept) -> Tensor:
    hot = concept.one_hot.to(v.dtype).expand(*v.shape[:2], -1, -1)
    return torch.cat([v, hot], dim=-1)


def flex(q: Tensor, k: Tensor, v: Tensor, concept: Concept) -> tuple[Tensor, Tensor]:
    """Log-sum-exps of two calls: sum p^2 = exp(lse of 2 s over columns - 2 lse)."""
    flexible = torch.compile(flex_attention)
    scale = q.shape[-1] ** -0.5
    asked: Any = AuxRequest(lse=True)
    o, all_keys = flexible(q, k, v, scale=scale, return_aux=asked)
    part = slice(concept.columns.start, concept.columns.stop)
    few = (k[:, :, part].contiguous(), v[:, :, part].contiguous())
    _, selected = flexible(q, *few, scale=2 * scale, return_aux=asked)
    return o, (selected.lse - 2 * all_keys.lse).exp().sum(dim=-1)


ANYWHERE: dict[str, Provider] = {
    "published": published,
    "naive": naive,
    "augmented": augmented,
    "augmented_padded": augmented_padded,
    "ours": ours,
}
# These ask the host for a size, so they cannot be captured in a graph.
NOT_CAPTURED = {"published"}


def on_a_gpu() -> dict[str, Provider]:
    """Return all providers, those that need a compiler included."""
    naive_compiled = torch.compile(naive, dynamic=False)
    return {**ANYWHERE, "naive_compiled": naive_compiled, "flex": flex}
