"""Blobs in a folder."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from myosotis.digests import Digest
from myosotis.errors import (
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)

CHUNK_BYTES = 1 << 20
_MODE = 0o644


class BlobDirectory:
    """Implements :class:`myosotis.patches.ports.BlobStore` in the folder *root*.

    A blob is the file ``ab/cd/{sha256}``, made by renaming a file of ``incoming/`` that
    is complete, verified and on the disk.
    """

    def __init__(self, root: Path) -> None:
        """Makes the folder, and removes what a killed writer left in it.

        Raises:
            UnavailableError: when the folder cannot be made.
        """
        self._root = root
        self._incoming = root / "incoming"
        with _translated(root):
            self._incoming.mkdir(parents=True, exist_ok=True)
            for path in self._incoming.iterdir():
                _remove_if_abandoned(path)

    def put(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        with self._new_file() as file, _translated(self._root):
            _write_verified(file, digest, chunks)
            file.flush()
            os.fchmod(file.fileno(), _MODE)
            os.fsync(file.fileno())
            target = self._path(digest)
            _make_folders(target.parent, self._root)
            os.replace(file.name, target)  # noqa: PTH105 - the name is text
            _sync_folder(target.parent)

    def open(self, digest: Digest, *, offset: int = 0) -> Iterator[bytes]:
        if not 0 <= offset <= digest.size_bytes:
            raise InvalidArgumentError("read_offset", f"not within {digest.size_bytes}")
        chunks = self._verified(digest, offset)
        next(chunks)  # verifies now, not when the first chunk is asked for
        return chunks

    def has(self, digest: Digest) -> bool:
        return self._path(digest).is_file()

    def _path(self, digest: Digest) -> Path:
        sha256 = digest.sha256
        return self._root / sha256[:2] / sha256[2:4] / sha256

    @contextmanager
    def _new_file(self) -> "Iterator[tempfile._TemporaryFileWrapper[bytes]]":
        with _translated(self._root):
            file = tempfile.NamedTemporaryFile(dir=self._incoming, delete=False)  # noqa: SIM115 - closed below
        try:
            # Held until it is complete: see _remove_if_abandoned.
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)
            # On a full disk closing fails once more; the first error is the one told.
            with suppress(OSError):
                file.close()

    def _verified(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """First an empty chunk, once the content is verified; then the content."""
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"blob {digest.sha256}") from error
        except OSError as error:
            raise _unavailable(self._root, error) from error
        with file, _translated(self._root):
            if os.fstat(file.fileno()).st_size != digest.size_bytes:
                raise IntegrityError(f"blob {digest.sha256}")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest.sha256:
                raise IntegrityError(f"blob {digest.sha256}")
            file.seek(offset)
            yield b""
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _write_verified(file: IO[bytes], digest: Digest, chunks: Iterable[bytes]) -> None:
    hasher = hashlib.sha256()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        # Said at once, so that an endless stream does not fill the disk.
        if size > digest.size_bytes:
            raise InvalidArgumentError(
                "digest", f"more content than {digest.size_bytes} bytes"
            )
        hasher.update(chunk)
        file.write(chunk)
    if Digest(hasher.hexdigest(), size) != digest:
        raise InvalidArgumentError("digest", f"the content has another than {digest}")


def _make_folders(folder: Path, root: Path) -> None:
    """Makes *folder* below *root*, so that it outlives a power cut."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)
        _sync_folder(root)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    """Removes *path* unless a living writer, here or in another process, holds it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (FileNotFoundError, BlockingIOError):
        pass  # just completed, or still being written


@contextmanager
def _translated(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unavailable(root, error) from error


def _unavailable(root: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"blob folder {root}", error.strerror or str(error))
