import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from myosotis.v1 import digest_pb2 as _digest_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    PASS: _ClassVar[Verdict]
    FAIL: _ClassVar[Verdict]
    ERROR: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
PASS: Verdict
FAIL: Verdict
ERROR: Verdict

class Patch(_message.Message):
    __slots__ = ("name", "manifest", "tensor_file", "concepts", "unlearning_run", "measurements", "gate_results", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FILE_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    UNLEARNING_RUN_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    GATE_RESULTS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: _digest_pb2.Digest
    tensor_file: _digest_pb2.Digest
    concepts: _containers.RepeatedScalarFieldContainer[str]
    unlearning_run: str
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    gate_results: _containers.RepeatedCompositeFieldContainer[GateResult]
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., tensor_file: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., concepts: _Optional[_Iterable[str]] = ..., unlearning_run: _Optional[str] = ..., measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., gate_results: _Optional[_Iterable[_Union[GateResult, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("metric", "concept", "patched", "value", "sample_size", "low", "high", "detector_profile")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    PATCHED_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_PROFILE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    concept: str
    patched: bool
    value: float
    sample_size: int
    low: float
    high: float
    detector_profile: str
    def __init__(self, metric: _Optional[str] = ..., concept: _Optional[str] = ..., patched: _Optional[bool] = ..., value: _Optional[float] = ..., sample_size: _Optional[int] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., detector_profile: _Optional[str] = ...) -> None: ...

class GateResult(_message.Message):
    __slots__ = ("concept", "rule", "verdict", "bound", "value", "detail")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    concept: str
    rule: str
    verdict: Verdict
    bound: float
    value: float
    detail: str
    def __init__(self, concept: _Optional[str] = ..., rule: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., bound: _Optional[float] = ..., value: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("name", "patch", "policy_revision", "manifest", "create_time", "concepts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    patch: str
    policy_revision: int
    manifest: _digest_pb2.Digest
    create_time: _timestamp_pb2.Timestamp
    concepts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., patch: _Optional[str] = ..., policy_revision: _Optional[int] = ..., manifest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., concepts: _Optional[_Iterable[str]] = ...) -> None: ...
