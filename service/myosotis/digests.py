"""Content addresses, and the one JSON form whose bytes are stable."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Self

from myosotis.errors import InvalidArgumentError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Address of immutable bytes.

    Attributes:
        sha256: 64 lower-case hexadecimal digits.
        size_bytes: length of the content; a size that disagrees is a refusal.
    """

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise InvalidArgumentError("sha256", "not 64 lower-case hex digits")
        if self.size_bytes < 0:
            raise InvalidArgumentError("size_bytes", "negative")

    @classmethod
    def of(cls, content: bytes) -> Self:
        return cls(hashlib.sha256(content).hexdigest(), len(content))

    def __str__(self) -> str:
        return f"sha256:{self.sha256[:12]}"


def canonical_json(value: object) -> bytes:
    """*value* as JSON bytes: sorted keys, no spaces, UTF-8, no NaN.

    Only for content that is hashed or signed. Whoever verifies keeps the bytes that
    arrived and never writes them again.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical JSON of *value*, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
