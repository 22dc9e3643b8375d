import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from myosotis.v1 import patch_pb2 as _patch_pb2
from myosotis.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UnlearningRun(_message.Message):
    __slots__ = ("name", "state", "plan", "policy_revision", "attempt", "worker", "progress", "measurements", "gate_results", "patch", "failure", "create_time", "start_time", "end_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[UnlearningRun.State]
        QUEUED: _ClassVar[UnlearningRun.State]
        RUNNING: _ClassVar[UnlearningRun.State]
        CANCELLING: _ClassVar[UnlearningRun.State]
        CANCELLED: _ClassVar[UnlearningRun.State]
        SUCCEEDED: _ClassVar[UnlearningRun.State]
        FAILED: _ClassVar[UnlearningRun.State]
    STATE_UNSPECIFIED: UnlearningRun.State
    QUEUED: UnlearningRun.State
    RUNNING: UnlearningRun.State
    CANCELLING: UnlearningRun.State
    CANCELLED: UnlearningRun.State
    SUCCEEDED: UnlearningRun.State
    FAILED: UnlearningRun.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    GATE_RESULTS_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: UnlearningRun.State
    plan: ErasurePlan
    policy_revision: int
    attempt: int
    worker: str
    progress: RunProgress
    measurements: _containers.RepeatedCompositeFieldContainer[_patch_pb2.Measurement]
    gate_results: _containers.RepeatedCompositeFieldContainer[_patch_pb2.GateResult]
    patch: str
    failure: str
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[UnlearningRun.State, str]] = ..., plan: _Optional[_Union[ErasurePlan, _Mapping]] = ..., policy_revision: _Optional[int] = ..., attempt: _Optional[int] = ..., worker: _Optional[str] = ..., progress: _Optional[_Union[RunProgress, _Mapping]] = ..., measurements: _Optional[_Iterable[_Union[_patch_pb2.Measurement, _Mapping]]] = ..., gate_results: _Optional[_Iterable[_Union[_patch_pb2.GateResult, _Mapping]]] = ..., patch: _Optional[str] = ..., failure: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ErasurePlan(_message.Message):
    __slots__ = ("model", "concepts", "enforcement", "digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    concepts: _containers.RepeatedCompositeFieldContainer[PlannedConcept]
    enforcement: _policy_pb2.Policy.Enforcement
    digest: str
    def __init__(self, model: _Optional[str] = ..., concepts: _Optional[_Iterable[_Union[PlannedConcept, _Mapping]]] = ..., enforcement: _Optional[_Union[_policy_pb2.Policy.Enforcement, str]] = ..., digest: _Optional[str] = ...) -> None: ...

class PlannedConcept(_message.Message):
    __slots__ = ("name", "concept")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    concept: _policy_pb2.Concept
    def __init__(self, name: _Optional[str] = ..., concept: _Optional[_Union[_policy_pb2.Concept, _Mapping]] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("phase", "done_steps", "total_steps")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    phase: str
    done_steps: int
    total_steps: int
    def __init__(self, phase: _Optional[str] = ..., done_steps: _Optional[int] = ..., total_steps: _Optional[int] = ...) -> None: ...
