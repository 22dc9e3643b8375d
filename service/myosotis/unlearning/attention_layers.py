"""Where a UNet reads text: its cross-attention modules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from myosotis.errors import PreconditionError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

_SUFFIX = "attn2"


def cross_attention(unet: "UNet2DConditionModel") -> dict[str, Any]:
    """The cross-attention modules (diffusers ``Attention``) by name, in order.

    Raises:
        PreconditionError: a UNet without any, or with a kind whose keys and values are
            not one linear map of the text embeddings.
    """
    found = {
        name: module for name, module in unet.named_modules() if name.endswith(_SUFFIX)
    }
    if not found:
        raise PreconditionError("the UNet has no cross-attention")
    for name, module in found.items():
        if module.norm_cross or getattr(module, "add_k_proj", None) is not None:
            raise PreconditionError(f"{name} does more to text than a linear map")
    return found


def text_weights(
    unet: "UNet2DConditionModel",
    state: "Mapping[str, Tensor]",
    parts: tuple[str, ...],
    *,
    text_width: int,
) -> "dict[str, Tensor]":
    """The weights [O, D] that read text, out of *state*, by tensor name.

    Args:
        unet: whose cross-attention.
        state: its state dict.
        parts: ``to_k.weight`` and ``to_v.weight``, or one of them.
        text_width: D.

    Raises:
        PreconditionError: a layer reads text of another width than *text_width*.
    """
    names = [f"{module}.{part}" for module in cross_attention(unet) for part in parts]
    for name in names:
        if state[name].shape[1] != text_width:
            raise PreconditionError(
                f"{name} reads text of width {state[name].shape[1]}, "
                f"and the text encoder gives {text_width}"
            )
    return {name: state[name] for name in names}
