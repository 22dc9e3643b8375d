"""The losses of attention re-steering, from attention masses.

Forget-Me-Not (Zhang et al., arXiv 2303.17591) minimises the plain L2 norm of all
probabilities that image queries give to the concept's tokens, over every
cross-attention layer (l), head (h), query (n) and concept token (s in S):

    L = sqrt( sum_{l,h,n,s} p^2 )

There is no target and no other term; the softmax moves the mass to other tokens.
``published_loss`` is that. With several samples in a batch, which upstream masks
wrongly, it is the mean of the samples' losses, each with its own S.

``per_layer_loss`` is ours: the same norm in each layer and sample by itself, as a root
mean square over heads and queries, then the mean of those. Layers of high resolution do
not outweigh the others, and the value does not depend on the picture's size.

Legend: B batch, H heads, L token positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from myosotis.unlearning.attention_masses import LayerMass


def published_loss(masses: Sequence[LayerMass], selected: Tensor) -> Tensor:
    """The paper's loss, a scalar.

    Args:
        masses: of every cross-attention layer.
        selected: whether a token belongs to the concept, bool [B, L].
    """
    per_sample = [_of_concept(layer.mass, selected).sum(dim=1) for layer in masses]
    return torch.stack(per_sample).sum(dim=0).sqrt().mean()


def per_layer_loss(masses: Sequence[LayerMass], selected: Tensor) -> Tensor:
    """Our loss, a scalar in [0, 1]; arguments as in :func:`published_loss`."""
    per_layer = [
        (_of_concept(layer.mass, selected).mean(dim=1) / layer.queries).sqrt().mean()
        for layer in masses
    ]
    return torch.stack(per_layer).mean()


def _of_concept(mass: Tensor, selected: Tensor) -> Tensor:
    """[B, H, L] summed over each sample's own tokens: [B, H]."""
    return torch.where(selected.unsqueeze(1), mass, 0).sum(dim=-1)
