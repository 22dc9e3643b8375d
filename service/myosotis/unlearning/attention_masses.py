"""How much attention image queries pay to each token, in every cross-attention layer.

The masses of a forward pass are returned by value; nothing global collects them. What
is done with them is the loss's business (:mod:`.resteering_loss`), so that a fused
kernel can take the place of the processor.

Legend: B batch, H heads, N image queries, L token positions, D head width, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from myosotis.errors import PreconditionError
from myosotis.unlearning.attention_layers import cross_attention

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True, eq=False, slots=True)
class LayerMass:
    """The mass in one layer.

    Attributes:
        mass: sum over queries of squared probabilities, [B, H, L].
        queries: number of image queries.
    """

    mass: Tensor
    queries: int

    def first(self, samples: int) -> "LayerMass":
        """Of the first *samples* of the batch."""
        return LayerMass(self.mass[:samples], self.queries)


class MassProcessor:
    """An attention processor that keeps the mass of its last forward until taken."""

    def __init__(self) -> None:
        self._mass: Tensor | None = None
        self._queries = 0

    def __call__(
        self,
        attn: Any,  # noqa: ANN401 - diffusers' Attention, which has no types
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend; [B, N, C] to [B, N, C], as diffusers' own processor does."""
        if (
            encoder_hidden_states is None
            or attention_mask is not None
            or temb is not None
        ):
            raise PreconditionError("a cross-attention with a mask or without text")
        q, k, v = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        p = ((q @ k.mT) * attn.scale).softmax(dim=-1)
        self._mass, self._queries = p.square().sum(dim=-2), p.shape[-2]
        attended = (p @ v).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](attended))
        return cast("Tensor", out / attn.rescale_output_factor)

    def take(self) -> LayerMass:
        """What the last forward left; each can be taken once."""
        mass, self._mass = self._mass, None
        if mass is None:
            raise PreconditionError("a cross-attention that no forward pass reaches")
        return LayerMass(mass, self._queries)


class MassUNet:
    """A UNet whose forward pass gives attention masses beside its prediction."""

    def __init__(self, unet: "UNet2DConditionModel") -> None:
        """Put processors into *unet*, which must be the caller's own copy.

        Raises:
            PreconditionError: cross-attention of a kind that the processor does not
                compute.
        """
        layers = cross_attention(unet)
        for name, layer in layers.items():
            if layer.residual_connection or layer.group_norm or layer.spatial_norm:
                raise PreconditionError(f"{name} is more than attention")
        self.unet = unet
        self._processors = {f"{name}.processor": MassProcessor() for name in layers}
        unet.set_attn_processor({**unet.attn_processors, **self._processors})

    def masses(
        self, latents: Tensor, timesteps: Tensor, text: Tensor
    ) -> Sequence[LayerMass]:
        """The mass in every layer, in their order; the prediction is ignored.

        Args:
            latents: noised, [B, channels, height, width].
            timesteps: int64 [B].
            text: embeddings, [B, L, text width].
        """
        return self(latents, timesteps, text)[1]

    def __call__(
        self, latents: Tensor, timesteps: Tensor, text: Tensor
    ) -> tuple[Tensor, Sequence[LayerMass]]:
        """As :meth:`masses`, with the prediction before them."""
        prediction: Tensor = self.unet(latents, timesteps, text).sample
        return prediction, [p.take() for p in self._processors.values()]
