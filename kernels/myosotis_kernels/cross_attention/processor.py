"""An attention processor that computes the mass and hands it on.

The modules are those of diffusers' `Attention` class, recognised by what they have
(`to_q`, `set_processor`, ...), not by their type.

Legend: B batch, H heads, N image rows, L text keys, D head width, C channels.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from myosotis_kernels.cross_attention.arguments import Implementation
from myosotis_kernels.cross_attention.op import attention_with_mass


class CrossAttention(Protocol):
    """What is used of a diffusers `Attention` module."""

    heads: int
    scale: float
    rescale_output_factor: float
    residual_connection: bool
    group_norm: Callable[[Tensor], Tensor] | None
    norm_cross: Any
    norm_q: Callable[[Tensor], Tensor] | None
    norm_k: Callable[[Tensor], Tensor] | None
    to_q: Callable[[Tensor], Tensor]
    to_k: Callable[[Tensor], Tensor]
    to_v: Callable[[Tensor], Tensor]
    to_out: list[Callable[[Tensor], Tensor]]
    processor: Any

    def set_processor(self, processor: Any) -> None: ...  # noqa: ANN401
    def norm_encoder_hidden_states(self, encoder_hidden_states: Tensor) -> Tensor: ...


class MassOwner(Protocol):
    """What a processor asks of whoever installed it."""

    power: int
    implementation: Implementation

    def row_weight(self, rows: int) -> Tensor | None:
        """Return the weights [B, N] of a layer with N rows; None is 1."""
        ...

    def put(self, name: str, mass_BHL: Tensor, *, rows: int) -> None:
        """Take the mass of a layer."""
        ...


class MassAttentionProcessor:
    """An attention processor for one cross-attention layer of a diffusers model.

    It computes what diffusers' `AttnProcessor2_0` computes, with `attention_with_mass`
    in place of scaled dot-product attention, and hands the mass to its owner. Scores
    and softmax are fp32, so a module's `upcast_attention` needs nothing further.

    Args:
        name: The module's path in the model; the key of its mass.
        owner: Receives the mass.
    """

    def __init__(self, name: str, owner: MassOwner) -> None:
        self.name = name
        self._owner = owner

    def __call__(
        self,
        attn: CrossAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the layer's output, in the shape of `hidden_states`.

        Args:
            attn: The module.
            hidden_states: [B, N, C], or [B, C, height, width].
            encoder_hidden_states: Text embedding, [B, L, text width].
            attention_mask: None, or a bias of the keys added to the scores, [B, L] or
                [B, 1, L].
            temb: Time embedding; not used by the layers supported here.

        Raises:
            ValueError: There is no text, or the module or the mask has a form that
                Stable Diffusion's cross-attention does not use.
        """
        del temb
        text_BLC = _only_text(attn, encoder_hidden_states)
        residual = hidden_states
        x_BNC = hidden_states
        if hidden_states.dim() == 4:  # noqa: PLR2004
            x_BNC = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            x_BNC = attn.group_norm(x_BNC.transpose(1, 2)).transpose(1, 2)
        if attn.norm_cross is not None:
            text_BLC = attn.norm_encoder_hidden_states(text_BLC)

        q_BHND = _heads_apart(attn.to_q(x_BNC), attn.heads)
        k_BHLD = _heads_apart(attn.to_k(text_BLC), attn.heads)
        v_BHLD = _heads_apart(attn.to_v(text_BLC), attn.heads)
        if q_BHND.shape[-1] != k_BHLD.shape[-1]:
            raise ValueError(f"{self.name} groups its queries: not supported")
        if attn.norm_q is not None:
            q_BHND = attn.norm_q(q_BHND)
        if attn.norm_k is not None:
            k_BHLD = attn.norm_k(k_BHLD)

        o_BHND, mass_BHL = attention_with_mass(
            q_BHND,
            k_BHLD,
            v_BHLD,
            power=self._owner.power,
            row_weight=self._owner.row_weight(q_BHND.shape[2]),
            key_bias=_key_bias(attention_mask, text_BLC),
            scale=attn.scale,
            implementation=self._owner.implementation,
        )
        self._owner.put(self.name, mass_BHL, rows=q_BHND.shape[2])

        out = o_BHND.transpose(1, 2).flatten(2)
        for layer in attn.to_out:
            out = layer(out)
        if hidden_states.dim() == 4:  # noqa: PLR2004
            out = out.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


def _only_text(attn: CrossAttention, text: Any) -> Tensor:  # noqa: ANN401
    if not isinstance(text, Tensor):
        raise ValueError(  # noqa: TRY004 - the fault is the model's form, not a type
            f"cross-attention over {type(text).__name__} instead of one text embedding"
        )
    for part in ("spatial_norm", "added_kv_proj_dim"):
        if getattr(attn, part, None) is not None:
            raise ValueError(f"a module with {part} is not supported")
    return text


def _heads_apart(x_BXC: Tensor, heads: int) -> Tensor:
    return x_BXC.view(*x_BXC.shape[:2], heads, -1).transpose(1, 2)


def _key_bias(mask: Tensor | None, text_BLC: Tensor) -> Tensor | None:
    if mask is None:
        return None
    B, L = text_BLC.shape[:2]
    if mask.shape not in {(B, L), (B, 1, L)} or not mask.dtype.is_floating_point:
        raise ValueError(
            f"the mask is {tuple(mask.shape)} {mask.dtype}, not a bias of {(B, 1, L)}"
        )
    return mask.reshape(B, L)
