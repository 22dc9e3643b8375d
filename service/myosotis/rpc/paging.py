"""Page tokens (AIP-158): where the next page starts, opaque to clients. Pure."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from myosotis.errors import InvalidArgumentError

T = TypeVar("T")
K = TypeVar("K", int, str)

_DEFAULT = 50
_HIGHEST = 500


def page(
    *,
    size: int,
    token: str,
    kind: type[K],
    read: Callable[[int, K | None], Sequence[T]],
    key: Callable[[T], K],
) -> tuple[Sequence[T], str]:
    """One page and the token of the next, empty on the last.

    Args:
        size: rows that the client asks for: 0 means 50, more than 500 means 500.
        token: of the previous answer, or empty.
        kind: type of the sort key.
        read: so many rows that come after a key, None for the first ones.
        key: sort key of a row.

    Raises:
        InvalidArgumentError: a negative size, or a token that is none of ours.
    """
    if size < 0:
        raise InvalidArgumentError("page_size", "negative")
    limit = min(size or _DEFAULT, _HIGHEST)
    rows = read(limit + 1, _decode(token, kind) if token else None)
    if len(rows) <= limit:
        return rows, ""
    return rows[:limit], _encode(key(rows[limit - 1]))


def _encode(key: int | str) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _decode(token: str, kind: type[K]) -> K:
    try:
        padded = token + "=" * (-len(token) % 4)
        key = json.loads(base64.urlsafe_b64decode(padded.encode()))
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentError("page_token", "not one of ours") from error
    if type(key) is not kind:
        raise InvalidArgumentError("page_token", "not one of ours")
    return key
