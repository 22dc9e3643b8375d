"""Prompts as a model's text encoder sees them.

Legend: N prompts, L token positions, D text width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from myosotis.errors import InvalidArgumentError

if TYPE_CHECKING:
    from myosotis.unlearning.models import ModelCard, TextToImageModel

_BATCH = 256
_ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """The tokenizer and text encoder of a model."""

    model: "TextToImageModel"

    @property
    def length(self) -> int:
        """Token positions of each prompt, start and end tokens included."""
        return int(self.model.pipeline.tokenizer.model_max_length)

    def token_ids(self, prompts: Sequence[str], *, concept: str) -> Tensor:
        """Padded token ids, int64 [N, L].

        Raises:
            InvalidArgumentError: naming *concept*, for a prompt that the text encoder
                would cut off: what is cut off is neither erased nor kept.
        """
        tokenizer = self.model.pipeline.tokenizer
        for prompt in prompts:
            count = len(tokenizer(prompt).input_ids)
            if count > self.length:
                raise InvalidArgumentError(
                    concept,
                    f"{prompt!r} has {count} tokens, more than the text encoder's "
                    f"{self.length}",
                )
        padded = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.length,
            return_tensors="pt",
        )
        return cast("Tensor", padded.input_ids)

    @torch.no_grad()
    def encode(self, ids: Tensor) -> Tensor:
        """What cross-attention reads, float32 [N, L, D]."""
        encoder = self.model.pipeline.text_encoder
        parts = [
            encoder(part.to(encoder.device))[0] for part in torch.split(ids, _BATCH)
        ]
        return torch.cat(parts).float().cpu()


def anchor_prompts(
    card: "ModelCard", anchor: str, templates: Sequence[str]
) -> tuple[str, ...]:
    """*anchor* in *templates*; one that brings its article keeps it."""
    if anchor.startswith(_ARTICLES):
        return tuple(template.format(anchor) for template in templates)
    return card.prompts(anchor, templates)
