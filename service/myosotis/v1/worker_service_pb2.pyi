import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from myosotis.v1 import digest_pb2 as _digest_pb2
from myosotis.v1 import patch_pb2 as _patch_pb2
from myosotis.v1 import unlearning_run_pb2 as _unlearning_run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClaimUnlearningRunRequest(_message.Message):
    __slots__ = ("worker", "models", "wait_duration")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    worker: str
    models: _containers.RepeatedScalarFieldContainer[str]
    wait_duration: _duration_pb2.Duration
    def __init__(self, worker: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., wait_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ClaimUnlearningRunResponse(_message.Message):
    __slots__ = ("unlearning_run", "lease_duration")
    UNLEARNING_RUN_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    unlearning_run: _unlearning_run_pb2.UnlearningRun
    lease_duration: _duration_pb2.Duration
    def __init__(self, unlearning_run: _Optional[_Union[_unlearning_run_pb2.UnlearningRun, _Mapping]] = ..., lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("unlearning_run", "attempt", "progress")
    UNLEARNING_RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    unlearning_run: str
    attempt: int
    progress: _unlearning_run_pb2.RunProgress
    def __init__(self, unlearning_run: _Optional[str] = ..., attempt: _Optional[int] = ..., progress: _Optional[_Union[_unlearning_run_pb2.RunProgress, _Mapping]] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("cancel_requested",)
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    cancel_requested: bool
    def __init__(self, cancel_requested: _Optional[bool] = ...) -> None: ...

class WriteBlobRequest(_message.Message):
    __slots__ = ("digest", "data")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    digest: _digest_pb2.Digest
    data: bytes
    def __init__(self, digest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class WriteBlobResponse(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: _digest_pb2.Digest
    def __init__(self, digest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ...) -> None: ...

class FinishUnlearningRunRequest(_message.Message):
    __slots__ = ("unlearning_run", "attempt", "patch_manifest", "failure", "cancelled", "measurements", "gate_results")
    UNLEARNING_RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PATCH_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    GATE_RESULTS_FIELD_NUMBER: _ClassVar[int]
    unlearning_run: str
    attempt: int
    patch_manifest: _digest_pb2.Digest
    failure: str
    cancelled: bool
    measurements: _containers.RepeatedCompositeFieldContainer[_patch_pb2.Measurement]
    gate_results: _containers.RepeatedCompositeFieldContainer[_patch_pb2.GateResult]
    def __init__(self, unlearning_run: _Optional[str] = ..., attempt: _Optional[int] = ..., patch_manifest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., failure: _Optional[str] = ..., cancelled: _Optional[bool] = ..., measurements: _Optional[_Iterable[_Union[_patch_pb2.Measurement, _Mapping]]] = ..., gate_results: _Optional[_Iterable[_Union[_patch_pb2.GateResult, _Mapping]]] = ...) -> None: ...
