import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PromptAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROMPT_ACTION_UNSPECIFIED: _ClassVar[PromptAction]
    ALLOW: _ClassVar[PromptAction]
    FLAG: _ClassVar[PromptAction]
    BLOCK: _ClassVar[PromptAction]
PROMPT_ACTION_UNSPECIFIED: PromptAction
ALLOW: PromptAction
FLAG: PromptAction
BLOCK: PromptAction

class Policy(_message.Message):
    __slots__ = ("name", "title", "enforcement", "models", "concepts", "moderation", "revision", "create_time", "update_time", "etag", "source_file")
    class Enforcement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENFORCEMENT_UNSPECIFIED: _ClassVar[Policy.Enforcement]
        DRY_RUN: _ClassVar[Policy.Enforcement]
        ENFORCED: _ClassVar[Policy.Enforcement]
    ENFORCEMENT_UNSPECIFIED: Policy.Enforcement
    DRY_RUN: Policy.Enforcement
    ENFORCED: Policy.Enforcement
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    MODERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FILE_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    enforcement: Policy.Enforcement
    models: _containers.RepeatedScalarFieldContainer[str]
    concepts: _containers.RepeatedCompositeFieldContainer[Concept]
    moderation: PromptRules
    revision: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    source_file: str
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., enforcement: _Optional[_Union[Policy.Enforcement, str]] = ..., models: _Optional[_Iterable[str]] = ..., concepts: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., moderation: _Optional[_Union[PromptRules, _Mapping]] = ..., revision: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., source_file: _Optional[str] = ...) -> None: ...

class Concept(_message.Message):
    __slots__ = ("id", "category", "action", "phrases", "exceptions", "anchor", "retain", "references", "method", "gate")
    class Category(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CATEGORY_UNSPECIFIED: _ClassVar[Concept.Category]
        NSFW: _ClassVar[Concept.Category]
        HARMFUL: _ClassVar[Concept.Category]
        IDENTITY: _ClassVar[Concept.Category]
        OBJECT: _ClassVar[Concept.Category]
        STYLE: _ClassVar[Concept.Category]
    CATEGORY_UNSPECIFIED: Concept.Category
    NSFW: Concept.Category
    HARMFUL: Concept.Category
    IDENTITY: Concept.Category
    OBJECT: Concept.Category
    STYLE: Concept.Category
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[Concept.Action]
        FORGET: _ClassVar[Concept.Action]
        CORRECT: _ClassVar[Concept.Action]
        DISENTANGLE: _ClassVar[Concept.Action]
    ACTION_UNSPECIFIED: Concept.Action
    FORGET: Concept.Action
    CORRECT: Concept.Action
    DISENTANGLE: Concept.Action
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[Concept.Method]
        AUTO: _ClassVar[Concept.Method]
        ATTENTION_RESTEERING: _ClassVar[Concept.Method]
        CLOSED_FORM: _ClassVar[Concept.Method]
    METHOD_UNSPECIFIED: Concept.Method
    AUTO: Concept.Method
    ATTENTION_RESTEERING: Concept.Method
    CLOSED_FORM: Concept.Method
    ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    EXCEPTIONS_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    category: Concept.Category
    action: Concept.Action
    phrases: _containers.RepeatedScalarFieldContainer[str]
    exceptions: _containers.RepeatedScalarFieldContainer[str]
    anchor: str
    retain: _containers.RepeatedScalarFieldContainer[str]
    references: _containers.RepeatedScalarFieldContainer[str]
    method: Concept.Method
    gate: Gate
    def __init__(self, id: _Optional[str] = ..., category: _Optional[_Union[Concept.Category, str]] = ..., action: _Optional[_Union[Concept.Action, str]] = ..., phrases: _Optional[_Iterable[str]] = ..., exceptions: _Optional[_Iterable[str]] = ..., anchor: _Optional[str] = ..., retain: _Optional[_Iterable[str]] = ..., references: _Optional[_Iterable[str]] = ..., method: _Optional[_Union[Concept.Method, str]] = ..., gate: _Optional[_Union[Gate, _Mapping]] = ...) -> None: ...

class Gate(_message.Message):
    __slots__ = ("max_detection_rate", "max_retained_loss")
    MAX_DETECTION_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_RETAINED_LOSS_FIELD_NUMBER: _ClassVar[int]
    max_detection_rate: float
    max_retained_loss: float
    def __init__(self, max_detection_rate: _Optional[float] = ..., max_retained_loss: _Optional[float] = ...) -> None: ...

class PromptRules(_message.Message):
    __slots__ = ("until_active", "when_active")
    UNTIL_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    WHEN_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    until_active: PromptAction
    when_active: PromptAction
    def __init__(self, until_active: _Optional[_Union[PromptAction, str]] = ..., when_active: _Optional[_Union[PromptAction, str]] = ...) -> None: ...
