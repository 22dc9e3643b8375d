"""The words of a text, in one form however they are written."""

import unicodedata
from collections.abc import Iterator

# Invisible characters that are letters or marks by their category: the grapheme joiner,
# the fillers of Hangul, and the variation selectors.
_INVISIBLE = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))

# Marks that make another letter (the dots of kana, the virama) have low combining
# classes; accents and vowel points do not count.
_LETTER_MARK_CLASSES = frozenset({0, 7, 8, 9})

# Scripts that set no spaces between words: each character is a word.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

_SHORTEST_INFLECTED = 3


def words(text: str) -> tuple[str, ...]:
    """The words of *text*, without case, accents, invisible characters, punctuation.

    Compatibility forms (full width, ligatures, letters in circles) count as the letters
    they stand for. Hyphens and underscores part words.
    """
    found: list[str] = []
    word: list[str] = []
    for character in _normal(text):
        if _is_unspaced(character):
            found += ["".join(word), character]
            word.clear()
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            word.append(character)
        else:
            found.append("".join(word))
            word.clear()
    found.append("".join(word))
    return tuple(filter(None, found))


def base_forms(word: str) -> Iterator[str]:
    """*word*, and what it is the plural of if it is one: ``knives`` gives knife."""
    yield word
    if len(word) <= _SHORTEST_INFLECTED or not word.endswith("s"):
        return
    yield word[:-1]
    if word.endswith("es") and len(word) > _SHORTEST_INFLECTED + 1:
        yield word[:-2]
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    if word.endswith("ves"):
        yield f"{word[:-3]}f"
        yield f"{word[:-3]}fe"


def _normal(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).casefold()
    kept = [c for c in unicodedata.normalize("NFKD", folded) if _counts(c)]
    return unicodedata.normalize("NFC", "".join(kept))


def _counts(character: str) -> bool:
    if character in _INVISIBLE:
        return False
    category = unicodedata.category(character)
    if category == "Mn":
        return unicodedata.combining(character) in _LETTER_MARK_CLASSES
    return category not in ("Cf", "Me")


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(low <= code <= high for low, high in _UNSPACED)
