import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from myosotis.digests import Digest
from myosotis.errors import (
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from myosotis.patches.ports import BlobStore
from myosotis.store.blobs import CHUNK_BYTES, BlobDirectory
from myosotis.store.memory import InMemoryBlobStore

CONTENT = b"forget me not"
DIGEST = Digest.of(CONTENT)


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "memory":
        return InMemoryBlobStore()
    return BlobDirectory(tmp_path / "blobs")


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_what_is_put_can_be_opened(blobs: BlobStore) -> None:
    assert not blobs.has(DIGEST)

    blobs.put(DIGEST, [CONTENT[:3], b"", CONTENT[3:]])

    assert blobs.has(DIGEST)
    assert b"".join(blobs.open(DIGEST)) == CONTENT


def test_putting_twice_is_putting_once(blobs: BlobStore) -> None:
    blobs.put(DIGEST, [CONTENT])
    blobs.put(DIGEST, [CONTENT])

    assert b"".join(blobs.open(DIGEST)) == CONTENT


def test_empty_content_is_content(blobs: BlobStore) -> None:
    blobs.put(Digest.of(b""), [])

    assert b"".join(blobs.open(Digest.of(b""))) == b""


@pytest.mark.parametrize(
    "chunks",
    [[], [b"forget me no!"], [CONTENT, b"!"], [CONTENT[:-1]], [CONTENT, CONTENT]],
)
def test_other_content_is_refused_and_leaves_nothing(
    blobs: BlobStore, chunks: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError):
        blobs.put(DIGEST, chunks)

    assert not blobs.has(DIGEST)
    assert files(tmp_path) == []


def test_a_size_that_disagrees_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(InvalidArgumentError):
        blobs.put(Digest(DIGEST.sha256, DIGEST.size_bytes + 1), [CONTENT])


def test_a_blob_that_was_never_put_is_not_found(blobs: BlobStore) -> None:
    with pytest.raises(NotFoundError):
        blobs.open(DIGEST)


@pytest.mark.parametrize("offset", [-1, len(CONTENT) + 1])
def test_an_offset_outside_the_content_is_refused(
    blobs: BlobStore, offset: int
) -> None:
    blobs.put(DIGEST, [CONTENT])

    with pytest.raises(InvalidArgumentError):
        blobs.open(DIGEST, offset=offset)


def test_content_is_read_from_an_offset_in_chunks(blobs: BlobStore) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 5)
    blobs.put(Digest.of(content), [content])

    chunks = list(blobs.open(Digest.of(content), offset=7))

    assert b"".join(chunks) == content[7:]
    assert max(len(chunk) for chunk in chunks) <= CHUNK_BYTES
    assert list(blobs.open(Digest.of(content), offset=len(content))) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(chunks=st.lists(st.binary(max_size=20)), data=st.data())
def test_any_content_survives(
    blobs: BlobStore, chunks: list[bytes], data: st.DataObject
) -> None:
    content = b"".join(chunks)
    offset = data.draw(st.integers(0, len(content)))

    blobs.put(Digest.of(content), chunks)

    assert b"".join(blobs.open(Digest.of(content), offset=offset)) == content[offset:]


def test_a_writer_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT[:3]
        raise EOFError

    with pytest.raises(EOFError):
        BlobDirectory(tmp_path).put(DIGEST, broken())

    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [CONTENT[:-1], CONTENT + b"!", b"forget me no!", b""]
)
def test_corrupt_content_is_never_handed_out(tmp_path: Path, damage: bytes) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, [CONTENT])
    (path,) = files(tmp_path)
    path.write_bytes(damage)

    with pytest.raises(IntegrityError):
        blobs.open(DIGEST)


def test_putting_again_repairs_corrupt_content(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, [CONTENT])
    files(tmp_path)[0].write_bytes(b"x")

    blobs.put(DIGEST, [CONTENT])

    assert b"".join(blobs.open(DIGEST)) == CONTENT


def test_blobs_lie_in_folders_of_two_levels_and_can_be_read_by_all(
    tmp_path: Path,
) -> None:
    BlobDirectory(tmp_path).put(DIGEST, [CONTENT])

    (path,) = files(tmp_path)
    sha256 = DIGEST.sha256
    assert path == tmp_path / sha256[:2] / sha256[2:4] / sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_a_killed_writer_left_is_removed_at_start(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, [CONTENT])
    (tmp_path / "incoming" / "half").write_bytes(b"forget")

    again = BlobDirectory(tmp_path)

    assert len(files(tmp_path)) == 1
    assert again.has(DIGEST)


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)

    def meanwhile() -> Iterator[bytes]:
        yield CONTENT[:3]
        BlobDirectory(tmp_path)
        yield CONTENT[3:]

    blobs.put(DIGEST, meanwhile())

    assert b"".join(blobs.open(DIGEST)) == CONTENT


PUT_A_MEGABYTE = """
import resource, signal, sys
from pathlib import Path
from myosotis.digests import Digest
from myosotis.errors import UnavailableError
from myosotis.store.blobs import BlobDirectory
blobs = BlobDirectory(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (70000, 70000))
content = bytes(1 << 20)
try:
    blobs.put(Digest.of(content), [content[:60000], content[60000:]])
except UnavailableError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_told_and_keeps_no_debris(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: write(2) fails alike."""
    service = str(Path(__file__).parents[2] / "service")

    done = subprocess.run(
        [sys.executable, "-c", PUT_A_MEGABYTE, str(tmp_path)],
        env={"PYTHONPATH": service},
        check=True,
        capture_output=True,
        text=True,
    )

    assert str(tmp_path) in done.stdout
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnavailableError):
        BlobDirectory(tmp_path / "file" / "blobs")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_unread_blob_leaves_no_open_file(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, [CONTENT])
    before = open_files()

    for _ in range(50):
        blobs.open(DIGEST)

    assert open_files() <= before + 1
