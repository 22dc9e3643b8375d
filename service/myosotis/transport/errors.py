"""Errors to a gRPC status and back, in one place.

A status carries a ``google.rpc.ErrorInfo`` of domain ``myosotis.dev``: its reason is a
name of ``myosotis.v1.ErrorReason``, its metadata holds every dynamic part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from myosotis.errors import (
    AlreadyExistsError,
    BaseWeightsError,
    CapacityError,
    ConflictError,
    IntegrityError,
    InvalidArgumentError,
    MyosotisError,
    NotFoundError,
    PatchRefusedError,
    PolicySyntaxError,
    PreconditionError,
    PromptBlockedError,
    RunStateError,
    UnavailableError,
)

DOMAIN = "myosotis.dev"


@dataclass(frozen=True, slots=True)
class _Row:
    """How one type travels.

    Attributes:
        kind: the error type, a dataclass.
        code: status code.
        reason: of the ErrorInfo.
        fields: its attributes, each with what reads it back from text.
    """

    kind: type[MyosotisError]
    code: int
    reason: str
    fields: dict[str, Callable[[str], object]]


# The first row whose type fits decides, so subclasses stand before their parents.
_ROWS = (
    _Row(
        PolicySyntaxError,
        code_pb2.INVALID_ARGUMENT,
        "POLICY_SYNTAX",
        {"field": str, "problem": str, "path": Path, "line": int, "column": int},
    ),
    _Row(
        InvalidArgumentError,
        code_pb2.INVALID_ARGUMENT,
        "INVALID_FIELD",
        {"field": str, "problem": str},
    ),
    _Row(NotFoundError, code_pb2.NOT_FOUND, "RESOURCE_NOT_FOUND", {"name": str}),
    _Row(AlreadyExistsError, code_pb2.ALREADY_EXISTS, "RESOURCE_EXISTS", {"name": str}),
    _Row(ConflictError, code_pb2.ABORTED, "STALE_WRITE", {"name": str}),
    _Row(
        RunStateError,
        code_pb2.FAILED_PRECONDITION,
        "RUN_STATE",
        {"run": str, "state": str, "wanted": str},
    ),
    _Row(
        BaseWeightsError,
        code_pb2.FAILED_PRECONDITION,
        "BASE_WEIGHTS",
        {"expected": str, "actual": str},
    ),
    _Row(
        PromptBlockedError,
        code_pb2.FAILED_PRECONDITION,
        "PROMPT_BLOCKED",
        {"concept": str, "revision": int},
    ),
    _Row(
        PatchRefusedError,
        code_pb2.FAILED_PRECONDITION,
        "PATCH_REFUSED",
        {"refusal": str, "detail": str},
    ),
    _Row(PreconditionError, code_pb2.FAILED_PRECONDITION, "PRECONDITION", {}),
    _Row(
        CapacityError,
        code_pb2.RESOURCE_EXHAUSTED,
        "CAPACITY",
        {"what": str, "retry_after_seconds": float},
    ),
    _Row(IntegrityError, code_pb2.DATA_LOSS, "CORRUPT_CONTENT", {"name": str}),
    _Row(
        UnavailableError,
        code_pb2.UNAVAILABLE,
        "DEPENDENCY_UNAVAILABLE",
        {"service": str, "problem": str},
    ),
)
_BY_REASON = {row.reason: row for row in _ROWS if row.fields}


def to_status(error: MyosotisError) -> status_pb2.Status:
    """The status of *error*, with its ErrorInfo and what else clients act on."""
    for row in _ROWS:
        if isinstance(error, row.kind):
            metadata = {name: str(getattr(error, name)) for name in row.fields}
            return _status(row.code, str(error), row.reason, metadata)
    return internal_status("")


def internal_status(correlation_id: str) -> status_pb2.Status:
    """The status of a defect: its text is withheld, the id leads to the log."""
    return _status(
        code_pb2.INTERNAL,
        f"internal defect {correlation_id}",
        "INTERNAL_DEFECT",
        {"correlation_id": correlation_id},
    )


def _status(
    code: int, message: str, reason: str, metadata: dict[str, str]
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if reason in ("INVALID_FIELD", "POLICY_SYNTAX"):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=metadata["field"], description=metadata["problem"]
        )
        details.append(
            _packed(error_details_pb2.BadRequest(field_violations=[violation]))
        )
    if reason == "CAPACITY":
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(round(float(metadata["retry_after_seconds"]) * 1e6))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code, message=message, details=details)


def _packed(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


@dataclass
class RemoteError(MyosotisError):
    """A failure that another process reported and this version has no type for.

    Attributes:
        code: name of the gRPC status code.
        reason: of the ErrorInfo; empty when there was none.
        message: the status message.
    """

    code: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def from_rpc_error(error: grpc.RpcError, *, service: str) -> MyosotisError:
    """The error that *service* raised, as far as its type travels.

    A failure of the transport itself becomes UnavailableError.
    """
    info, message, code = _error_info(error)
    reason = info.reason if info is not None else ""
    row = _BY_REASON.get(reason)
    if info is not None and row is not None:
        fields = {name: read(info.metadata[name]) for name, read in row.fields.items()}
        return row.kind(**fields)
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(service, message or "cannot be reached")
    return RemoteError(code.name, reason, message)


def _error_info(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, str, grpc.StatusCode]:
    code = error.code()
    message = error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key != rpc_status.GRPC_DETAILS_METADATA_KEY:
            continue
        status = status_pb2.Status.FromString(value)
        info = error_details_pb2.ErrorInfo()
        for detail in status.details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info, message, code
    return None, message, code
