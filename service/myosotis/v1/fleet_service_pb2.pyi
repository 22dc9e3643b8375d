import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from myosotis.v1 import weight_delivery_service_pb2 as _weight_delivery_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListInferenceServersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInferenceServersResponse(_message.Message):
    __slots__ = ("inference_servers", "next_page_token")
    INFERENCE_SERVERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    inference_servers: _containers.RepeatedCompositeFieldContainer[InferenceServer]
    next_page_token: str
    def __init__(self, inference_servers: _Optional[_Iterable[_Union[InferenceServer, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class InferenceServer(_message.Message):
    __slots__ = ("name", "model", "state", "active_generation", "desired_generation", "tensor_root", "last_refusal", "address", "heartbeat_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[InferenceServer.State]
        SYNCED: _ClassVar[InferenceServer.State]
        STAGED: _ClassVar[InferenceServer.State]
        UPDATING: _ClassVar[InferenceServer.State]
        NACKED_BUT_CACHED: _ClassVar[InferenceServer.State]
        STALE: _ClassVar[InferenceServer.State]
        NOT_READY: _ClassVar[InferenceServer.State]
    STATE_UNSPECIFIED: InferenceServer.State
    SYNCED: InferenceServer.State
    STAGED: InferenceServer.State
    UPDATING: InferenceServer.State
    NACKED_BUT_CACHED: InferenceServer.State
    STALE: InferenceServer.State
    NOT_READY: InferenceServer.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DESIRED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    LAST_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    state: InferenceServer.State
    active_generation: int
    desired_generation: int
    tensor_root: str
    last_refusal: _weight_delivery_service_pb2.Refusal
    address: str
    heartbeat_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., state: _Optional[_Union[InferenceServer.State, str]] = ..., active_generation: _Optional[int] = ..., desired_generation: _Optional[int] = ..., tensor_root: _Optional[str] = ..., last_refusal: _Optional[_Union[_weight_delivery_service_pb2.Refusal, _Mapping]] = ..., address: _Optional[str] = ..., heartbeat_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
