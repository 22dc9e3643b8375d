"""Values as the tables hold them, and back. What does not parse is corrupt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

from myosotis import records
from myosotis.digests import canonical_json
from myosotis.errors import IntegrityError, InvalidArgumentError, MyosotisError

T = TypeVar("T")


def time_to_text(time: datetime) -> str:
    """*time* in UTC, 27 characters, for example ``2030-01-02T03:04:05.678901Z``.

    Raises:
        InvalidArgumentError: for a time without zone.
    """
    if time.tzinfo is None:
        raise InvalidArgumentError("time", "has no time zone")
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


def time_from_text(text: str) -> datetime:
    """The time in *text*; ValueError when it is none."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def optional_time_to_text(time: datetime | None) -> str | None:
    """:func:`time_to_text` for a time that may be missing."""
    return None if time is None else time_to_text(time)


def optional_time_from_text(text: str | None) -> datetime | None:
    """:func:`time_from_text` for a time that may be missing."""
    return None if text is None else time_from_text(text)


def to_document(value: object) -> bytes:
    """*value*, a dataclass or a tuple of them, as JSON bytes."""
    if isinstance(value, tuple):
        return canonical_json([asdict(item) for item in value])
    return canonical_json(asdict(value))  # type: ignore[call-overload] # a dataclass


def from_document(kind: type[T], document: bytes) -> T:
    """The *kind* in *document*.

    Raises:
        InvalidArgumentError: when it is none.
    """
    return records.from_json(kind, document)


@contextmanager
def stored(name: str) -> Iterator[None]:
    """Inside, what the database holds of *name* is read; else it is corrupt.

    Raises:
        IntegrityError: with *name*.
    """
    try:
        yield
    except (ValueError, TypeError, OverflowError, MyosotisError) as error:
        raise IntegrityError(name) from error
