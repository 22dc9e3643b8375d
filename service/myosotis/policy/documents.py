"""YAML documents as a tree of located nodes, in the strict subset of policy files.

One document, UTF-8, no anchors, aliases, tags or merge keys, no key twice, and plain
scalars read as YAML 1.2 does: ``no`` and ``on`` are text.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_KEY_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; both numbers from 1."""

    line: int = 1
    column: int = 1


class DocumentError(Exception):
    """What is wrong with a document, in one clause, and where."""

    def __init__(self, place: Place, problem: str, at: str = "") -> None:
        super().__init__(problem)
        self.place = place
        self.problem = problem
        self.field = at


class ScalarKind(StrEnum):
    """What a scalar means in the core schema of YAML 1.2."""

    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, as written."""

    place: Place
    text: str
    kind: ScalarKind


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of nodes."""

    place: Place
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Named nodes in the order of the file; keys are text and distinct."""

    place: Place
    entries: "dict[str, Entry]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a mapping, and where its key stands."""

    key_place: Place
    value: "Node"


Node = Scalar | Sequence | Mapping

# The core schema, YAML 1.2.2 section 10.3.2.
_PLAIN = (
    (ScalarKind.NOTHING, re.compile(r"|~|null|Null|NULL")),
    (ScalarKind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (ScalarKind.NUMBER, re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (
        ScalarKind.NUMBER,
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ),
    (ScalarKind.NUMBER, re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)


def read_document(content: bytes) -> Node:
    """The one document in *content*.

    Raises:
        DocumentError: for anything outside the subset.
    """
    if len(content) > MAX_BYTES:
        raise DocumentError(Place(), f"larger than {MAX_BYTES} bytes")
    text = _decode(content)
    events = _Events(text)
    with events.located():
        events.take()  # start of the stream
        if isinstance(events.peek(), yaml.StreamEndEvent):
            raise DocumentError(Place(), "holds no document")
        events.take()  # start of the document
        root = _node(events, "", depth=1)
        events.take()  # end of the document
        if not isinstance(events.peek(), yaml.StreamEndEvent):
            raise DocumentError(
                _place(events.peek().start_mark),
                "a second document starts; write one policy in each file",
            )
    return root


class _Events:
    """PyYAML's events, one ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._loader: Any = None

    def peek(self) -> Any:  # noqa: ANN401 - PyYAML is not typed
        return self._loader.peek_event()

    def take(self) -> Any:  # noqa: ANN401 - PyYAML is not typed
        return self._loader.get_event()

    @contextmanager
    def located(self) -> Iterator[None]:
        """Opens the text; turns what PyYAML raises inside into DocumentError."""
        try:
            self._loader = yaml.SafeLoader(self._text)
            yield
        except yaml.reader.ReaderError as error:
            raise DocumentError(
                _place_at(self._text, error.position),
                f"holds the unprintable character U+{error.character:04X}",
            ) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            parts = [part for part in (error.context, error.problem) if part]
            raise DocumentError(
                _place(mark) if mark else Place(), ", ".join(parts)
            ) from error
        except (ValueError, OverflowError) as error:
            # The scanner lets through what chr() and int() say of "\UFFFFFFFF" and
            # of a version with thousands of digits.
            raise DocumentError(
                _place(self._loader.get_mark()), f"is not YAML: {error}"
            ) from error


def _node(events: _Events, path: str, *, depth: int) -> Node:
    event = events.take()
    place = _place(event.start_mark)
    if isinstance(event, yaml.AliasEvent):
        raise DocumentError(place, "aliases are refused; write the value out", path)
    if event.anchor is not None:
        raise DocumentError(place, "anchors are refused; write the value out", path)
    if event.tag is not None:
        raise DocumentError(place, f"tags are refused, here {event.tag!r}", path)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, place, path)
    if depth > MAX_DEPTH:
        raise DocumentError(place, f"nested deeper than {MAX_DEPTH} levels", path)
    if isinstance(event, yaml.SequenceStartEvent):
        return Sequence(place, tuple(_items(events, path, depth)))
    return Mapping(place, _entries(events, path, depth))


def _items(events: _Events, path: str, depth: int) -> Iterator[Node]:
    index = 0
    while not isinstance(events.peek(), yaml.SequenceEndEvent):
        yield _node(events, f"{path}[{index}]", depth=depth + 1)
        index += 1
    events.take()


def _entries(events: _Events, path: str, depth: int) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    while not isinstance(events.peek(), yaml.MappingEndEvent):
        key = _node(events, path, depth=depth + 1)
        if not isinstance(key, Scalar) or not _is_name(key.text):
            raise DocumentError(key.place, "a key has to be a name", path)
        if key.text == "<<":
            raise DocumentError(key.place, "merge keys are refused; write it out", path)
        if key.kind is not ScalarKind.TEXT:
            raise DocumentError(key.place, f"the key {key.text!r} is {key.kind}", path)
        at = f"{path}.{key.text}" if path else key.text
        if key.text in entries:
            first = entries[key.text].key_place.line
            raise DocumentError(
                key.place, f"stands here twice, first in line {first}", at
            )
        entries[key.text] = Entry(key.place, _node(events, at, depth=depth + 1))
    events.take()
    return entries


def _is_name(text: str) -> bool:
    # Errors show keys as they are: no line breaks, no terminal sequences, no essays.
    return len(text) <= MAX_KEY_LENGTH and text.isprintable()


def _scalar(event: Any, place: Place, path: str) -> Scalar:  # noqa: ANN401 - PyYAML is not typed
    try:
        event.value.encode()
    except UnicodeEncodeError as error:
        raise DocumentError(place, "holds half of a surrogate pair", path) from error
    return Scalar(place, event.value, _kind(event))


def _kind(event: Any) -> ScalarKind:  # noqa: ANN401 - PyYAML is not typed
    if event.style is None:
        for kind, pattern in _PLAIN:
            if pattern.fullmatch(event.value):
                return kind
    return ScalarKind.TEXT


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        raise DocumentError(
            _place_at(before, len(before)), f"not UTF-8: {error.reason}"
        ) from error


def _place(mark: Any) -> Place:  # noqa: ANN401 - PyYAML is not typed
    return Place(mark.line + 1, mark.column + 1)


def _place_at(text: str, index: int) -> Place:
    before = text[:index]
    return Place(before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)
