"""Every error that the service raises on purpose.

::

    MyosotisError
    +-- InvalidArgumentError      INVALID_ARGUMENT      field, problem
    |   +-- PolicySyntaxError                           path, line, column
    +-- NotFoundError             NOT_FOUND             name
    +-- AlreadyExistsError        ALREADY_EXISTS        name
    +-- ConflictError             ABORTED               name      (stale write: retry)
    +-- PreconditionError         FAILED_PRECONDITION             (retry will not help)
    |   +-- RunStateError                               run, state, wanted
    |   +-- BaseWeightsError                            expected, actual
    |   +-- PromptBlockedError                          concept, revision
    |   +-- PatchRefusedError                           refusal, detail
    +-- CapacityError             RESOURCE_EXHAUSTED    retry_after_seconds
    +-- IntegrityError            DATA_LOSS             name
    +-- UnavailableError          UNAVAILABLE           service

Errors carry fields; :mod:`myosotis.transport.errors` turns them into a gRPC status,
in one place. They never log, print or exit.
"""

from dataclasses import dataclass
from pathlib import Path


class MyosotisError(Exception):
    """Root of the tree."""


@dataclass
class InvalidArgumentError(MyosotisError):
    """Something the caller wrote is wrong.

    Attributes:
        field: dotted path of the field, for example ``concepts[0].phrases``.
        problem: what is wrong with it, in one clause.
    """

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem


@dataclass
class PolicySyntaxError(InvalidArgumentError):
    """A policy file that cannot be read as a policy; ``line``, ``column`` from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}"
        return f"{where}: {super().__str__()}"


@dataclass
class NotFoundError(MyosotisError):
    """No resource of that name."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} does not exist"


@dataclass
class AlreadyExistsError(MyosotisError):
    """A resource of that name is there already."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} exists already"


@dataclass
class ConflictError(MyosotisError):
    """Somebody else changed the resource first: read it again and retry."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} was changed by somebody else; read it again and retry"


class PreconditionError(MyosotisError):
    """The system is not in a state in which this can be done."""


@dataclass
class RunStateError(PreconditionError):
    """A run cannot go from its state to the wanted one."""

    run: str
    state: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.run} is {self.state} and cannot become {self.wanted}"


@dataclass
class BaseWeightsError(PreconditionError):
    """A patch was made for other base weights than those loaded (both digests)."""

    expected: str
    actual: str

    def __str__(self) -> str:
        return f"made for base weights {self.expected}, but {self.actual} are loaded"


@dataclass
class PromptBlockedError(PreconditionError):
    """A prompt asks for a banned concept.

    Attributes:
        concept: resource name of the concept, ``policies/*/concepts/*``.
        revision: registry revision that decided.
    """

    concept: str
    revision: int

    def __str__(self) -> str:
        return f"the prompt asks for {self.concept}, banned at revision {self.revision}"


@dataclass
class PatchRefusedError(PreconditionError):
    """A generation that an inference server must not serve.

    Attributes:
        refusal: machine-readable reason, a name of ``Refusal.Reason`` on the wire.
        detail: what was found, in one clause.
    """

    refusal: str
    detail: str

    def __str__(self) -> str:
        return f"{self.refusal}: {self.detail}"


@dataclass
class CapacityError(MyosotisError):
    """Too much at once; worth a retry after the given time."""

    what: str
    retry_after_seconds: float

    def __str__(self) -> str:
        return f"{self.what}; retry after {self.retry_after_seconds:g} s"


@dataclass
class IntegrityError(MyosotisError):
    """Stored bytes are not what their digest says."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} is corrupt: its bytes do not match its digest"


@dataclass
class UnavailableError(MyosotisError):
    """A service that is needed cannot be reached, or a disk cannot be written."""

    service: str
    problem: str

    def __str__(self) -> str:
        return f"{self.service}: {self.problem}"
