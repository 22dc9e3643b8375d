"""Which token positions of a prompt stand for the concept."""

from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from myosotis.errors import InvalidArgumentError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class TokenScope(StrEnum):
    """Positions that lose attention.

    CONCEPT: the tokens of the phrase.
    CONCEPT_AND_END: these and the first end-of-text token, the position from which the
        paper's ``use_pooler`` takes its name. Only the first: tokenizers that pad with
        the same token would otherwise select the whole rest of the prompt.
    CONCEPT_AND_AFTER: these and every position after them. A causal text encoder
        copies the concept into all of them.
    """

    CONCEPT = "CONCEPT"
    CONCEPT_AND_END = "CONCEPT_AND_END"
    CONCEPT_AND_AFTER = "CONCEPT_AND_AFTER"


def concept_positions(
    tokenizer: "CLIPTokenizer", prompt: str, span: tuple[int, int], scope: TokenScope
) -> Tensor:
    """Whether each padded position of *prompt* belongs to the concept, bool [L].

    Args:
        tokenizer: of the model.
        prompt: the whole prompt.
        span: where the phrase stands in it, in characters; ends before the second.
        scope: which positions.

    Raises:
        InvalidArgumentError: when there is no token within *span*.
    """
    length = int(tokenizer.model_max_length)
    found = tokenizer(prompt, return_offsets_mapping=True)
    inside = [
        begin < span[1] and end > span[0] and end > begin
        for begin, end in found.offset_mapping
    ]
    if not any(inside[:length]):
        phrase = prompt[slice(*span)]
        raise InvalidArgumentError("phrases", f"{phrase!r} has no token in {prompt!r}")
    selected = torch.zeros(length, dtype=torch.bool)
    selected[: len(inside)] = torch.tensor(inside[:length])
    if scope is TokenScope.CONCEPT_AND_END:
        selected[min(len(inside), length) - 1] = True
    elif scope is TokenScope.CONCEPT_AND_AFTER:
        selected[inside.index(True) :] = True
    return selected
