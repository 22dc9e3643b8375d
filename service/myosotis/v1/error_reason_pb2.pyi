from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    INVALID_FIELD: _ClassVar[ErrorReason]
    POLICY_SYNTAX: _ClassVar[ErrorReason]
    RESOURCE_NOT_FOUND: _ClassVar[ErrorReason]
    RESOURCE_EXISTS: _ClassVar[ErrorReason]
    STALE_WRITE: _ClassVar[ErrorReason]
    RUN_STATE: _ClassVar[ErrorReason]
    BASE_WEIGHTS: _ClassVar[ErrorReason]
    PROMPT_BLOCKED: _ClassVar[ErrorReason]
    PATCH_REFUSED: _ClassVar[ErrorReason]
    PRECONDITION: _ClassVar[ErrorReason]
    CAPACITY: _ClassVar[ErrorReason]
    CORRUPT_CONTENT: _ClassVar[ErrorReason]
    DEPENDENCY_UNAVAILABLE: _ClassVar[ErrorReason]
    INTERNAL_DEFECT: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
INVALID_FIELD: ErrorReason
POLICY_SYNTAX: ErrorReason
RESOURCE_NOT_FOUND: ErrorReason
RESOURCE_EXISTS: ErrorReason
STALE_WRITE: ErrorReason
RUN_STATE: ErrorReason
BASE_WEIGHTS: ErrorReason
PROMPT_BLOCKED: ErrorReason
PATCH_REFUSED: ErrorReason
PRECONDITION: ErrorReason
CAPACITY: ErrorReason
CORRUPT_CONTENT: ErrorReason
DEPENDENCY_UNAVAILABLE: ErrorReason
INTERNAL_DEFECT: ErrorReason
