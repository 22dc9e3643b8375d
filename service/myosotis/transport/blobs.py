"""Blobs on the wire: chunks of bounded size."""

from collections.abc import Iterator

MAX_CHUNK_BYTES = 1024 * 1024


def chunked(content: bytes, size: int = MAX_CHUNK_BYTES) -> Iterator[bytes]:
    """*content* in pieces of at most *size* bytes; one empty piece when it is empty."""
    for start in range(0, max(len(content), 1), size):
        yield content[start : start + size]
