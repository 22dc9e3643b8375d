"""What the patches stage needs of the world."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from myosotis.digests import Digest


class BlobStore(Protocol):
    """Keeps immutable bytes by digest. Partial writes are invisible."""

    def put(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        """Store the content of *digest*. Storing it twice is one store.

        Raises:
            InvalidArgumentError: when the chunks are not the content of *digest*.
            UnavailableError: when the disk is full or cannot be written.
        """
        ...

    def open(self, digest: Digest, *, offset: int = 0) -> Iterator[bytes]:
        """The content from *offset* on, in chunks of at most 1 MiB.

        The whole content is verified before the first chunk is handed out.

        Raises:
            NotFoundError: no such blob.
            IntegrityError: the stored bytes do not match the digest.
            InvalidArgumentError: *offset* beyond the end.
        """
        ...

    def has(self, digest: Digest) -> bool:
        """Whether it is stored; says nothing of its integrity."""
        ...
