"""Frozen dataclasses from JSON, strictly: no unknown field, no coerced type."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from myosotis.errors import InvalidArgumentError

T = TypeVar("T")


def from_json(kind: type[T], content: bytes | str) -> T:
    """A *kind* (a dataclass, or a tuple of them) from JSON.

    Raises:
        InvalidArgumentError: naming the first field that is wrong.
    """
    adapter: TypeAdapter[T] = _adapter(cast("Hashable", kind))
    try:
        return adapter.validate_json(content, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidArgumentError(field, first["msg"]) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any record type
    return TypeAdapter(kind)
