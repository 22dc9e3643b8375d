"""The tokenizer: a byte-pair vocabulary of its own, in CLIP's form."""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from myosotis.embedded.recipe.captions import caption
from myosotis.embedded.recipe.concepts import COLORS, CONCEPTS, STYLES
from myosotis.embedded.recipe.rasters import Rasters, shared_names
from myosotis.embedded.recipe.settings import Settings

LENGTH = 24
_MERGED_SIZE = 2600
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_EVERYDAY = (
    "a photo of a person's face in the background, in the style of an oil painting"
    " and with a portrait, a cartoon, a sketch, next to, holding, wearing, big, small,"
    " happy, sad, old, young, black, white, the, this, that, some, many, not, no,"
    " without"
)


def train(settings: Settings) -> Path:
    """Learn the merges from captions and icon names; write the tokenizer."""
    learned = Tokenizer(
        models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    learned.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGED_SIZE,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learned.train_from_iterator(_corpus(settings), trainer)
    merges = [
        tuple(merge) if isinstance(merge, list) else tuple(merge.split(" "))
        for merge in json.loads(learned.to_str())["model"]["merges"]
    ]
    vocabulary: dict[str, int] = {}
    endings = [f"{symbol}</w>" for symbol in alphabet]
    joined = ["".join(merge) for merge in merges]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    for token in (*alphabet, *endings, *joined, *specials):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    folder = settings.pipeline / "tokenizer"
    tokenizer.save_pretrained(folder)
    return folder


def load(settings: Settings) -> CLIPTokenizer:
    """The tokenizer that `train` wrote."""
    return CLIPTokenizer.from_pretrained(
        settings.pipeline / "tokenizer", local_files_only=True
    )


def _corpus(settings: Settings) -> list[str]:
    rng = random.Random(settings.seed)  # noqa: S311
    sentences = [
        caption(phrase, style, rng, rng.choice([None, *COLORS]))
        for concept in CONCEPTS
        for phrase in concept.phrases
        for style in STYLES
        for _ in range(8)
    ]
    names = shared_names([Rasters(settings.rasters, style) for style in STYLES])
    sentences += [name.replace("-", " ") for name in names] * 3
    return sentences + [_EVERYDAY] * 5
