"""Documents as ``myosotis.v1.Policy``: each node is checked against its descriptor."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from myosotis.policy.documents import (
    DocumentError,
    Entry,
    Mapping,
    Node,
    Place,
    Scalar,
    ScalarKind,
    Sequence,
)
from myosotis.v1 import policy_pb2

_OUTPUT_ONLY = field_behavior_pb2.FieldBehavior.Value("OUTPUT_ONLY")

# Fields that are no output, and make no sense in a file either.
_API_ONLY = frozenset({"etag"})


def message_from_document(
    root: Node,
) -> tuple[policy_pb2.Policy, dict[str, Place]]:
    """The message that *root* describes, and the place of each field in it.

    Raises:
        DocumentError: for an unknown, repeated or output-only field, or a wrong type.
    """
    message = policy_pb2.Policy()
    places: dict[str, Place] = {}
    _fill(message, root, path="", places=places)
    if "name" not in places:
        raise DocumentError(root.place, "required: policies/{policy}", "name")
    return message, places


def _fill(message: Any, node: Node, *, path: str, places: dict[str, Place]) -> None:  # noqa: ANN401 - any generated message
    places[path] = node.place
    if not isinstance(node, Mapping):
        what = path or "a policy"
        raise DocumentError(
            node.place, f"{what} has to be a mapping, not {_what(node)}", path
        )
    for field, entry in _fields(message.DESCRIPTOR, node, path):
        at = _below(path, field.name)
        places[at] = entry.value.place
        if field.is_repeated:
            _extend(message, field, entry.value, path=at, places=places)
        elif field.message_type is not None:
            nested = getattr(message, field.name)
            nested.SetInParent()
            _fill(nested, entry.value, path=at, places=places)
        else:
            setattr(message, field.name, _scalar(field, entry.value, at))


def _extend(
    message: Any,  # noqa: ANN401 - any generated message
    field: FieldDescriptor,
    node: Node,
    *,
    path: str,
    places: dict[str, Place],
) -> None:
    if not isinstance(node, Sequence):
        raise DocumentError(node.place, f"has to be a list, not {_what(node)}", path)
    values = getattr(message, field.name)
    for index, item in enumerate(node.items):
        at = f"{path}[{index}]"
        places[at] = item.place
        if field.message_type is not None:
            _fill(values.add(), item, path=at, places=places)
        else:
            values.append(_scalar(field, item, at))


def _fields(
    descriptor: Descriptor, node: Mapping, path: str
) -> Iterator[tuple[FieldDescriptor, Entry]]:
    """Each entry of *node* with its field, by either of its two names."""
    fields = [field for field in descriptor.fields if field.name not in _API_ONLY]
    by_name = {field.name: field for field in fields}
    by_name |= {field.json_name: field for field in fields}
    seen: dict[str, Place] = {}
    for key, entry in node.entries.items():
        at = _below(path, key)
        field = by_name.get(key)
        if field is None:
            names = [field.name for field in fields if not _is_output(field)]
            raise DocumentError(entry.key_place, _unknown(key, names), at)
        if _is_output(field):
            raise DocumentError(
                entry.key_place, "is set by the service; leave it out", at
            )
        if field.name in seen:
            first = seen[field.name].line
            raise DocumentError(
                entry.key_place, f"stands here twice, first in line {first}", at
            )
        seen[field.name] = entry.key_place
        yield field, entry


def _is_output(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return _OUTPUT_ONLY in behaviors


def _scalar(field: FieldDescriptor, node: Node, path: str) -> str | int | float:
    if not isinstance(node, Scalar):
        wanted = "a single value"
        raise DocumentError(node.place, f"has to be {wanted}, not {_what(node)}", path)
    if node.kind is ScalarKind.NOTHING:
        raise DocumentError(
            node.place, "has no value; give it one or leave it out", path
        )
    if field.enum_type is not None:
        return _enum_number(field, node, path)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _number(node, path)
    return _text(node, path)


def _enum_number(field: FieldDescriptor, node: Scalar, path: str) -> int:
    names = [value.name for value in field.enum_type.values if value.number]
    if node.text not in names:
        raise DocumentError(
            node.place, f"{node.text!r} is not one of {', '.join(names)}", path
        )
    return int(field.enum_type.values_by_name[node.text].number)


def _number(node: Scalar, path: str) -> float:
    if node.kind is not ScalarKind.NUMBER:
        raise DocumentError(node.place, f"{node.text!r} is not a number", path)
    try:
        return float(node.text)
    except ValueError as error:
        problem = f"{node.text!r} is not a decimal number"
        raise DocumentError(node.place, problem, path) from error


def _text(node: Scalar, path: str) -> str:
    if node.kind is not ScalarKind.TEXT:
        raise DocumentError(
            node.place, f'{node.text} is {node.kind}; quote it: "{node.text}"', path
        )
    return node.text


def _unknown(key: str, names: list[str]) -> str:
    close = get_close_matches(key, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"no such field{hint}"


def _what(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.kind if node.kind is not ScalarKind.TEXT else f"{node.text[:40]!r}"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
