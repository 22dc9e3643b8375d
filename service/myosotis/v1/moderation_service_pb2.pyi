from google.api import field_behavior_pb2 as _field_behavior_pb2
from myosotis.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckPromptsRequest(_message.Message):
    __slots__ = ("model", "prompts", "generation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompts: _containers.RepeatedScalarFieldContainer[str]
    generation: int
    def __init__(self, model: _Optional[str] = ..., prompts: _Optional[_Iterable[str]] = ..., generation: _Optional[int] = ...) -> None: ...

class CheckPromptsResponse(_message.Message):
    __slots__ = ("decisions", "policy_revision")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[PromptDecision]
    policy_revision: int
    def __init__(self, decisions: _Optional[_Iterable[_Union[PromptDecision, _Mapping]]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class PromptDecision(_message.Message):
    __slots__ = ("action", "findings")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    action: _policy_pb2.PromptAction
    findings: _containers.RepeatedCompositeFieldContainer[PromptFinding]
    def __init__(self, action: _Optional[_Union[_policy_pb2.PromptAction, str]] = ..., findings: _Optional[_Iterable[_Union[PromptFinding, _Mapping]]] = ...) -> None: ...

class PromptFinding(_message.Message):
    __slots__ = ("concept", "category", "phrase", "action", "dry_run")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    concept: str
    category: _policy_pb2.Concept.Category
    phrase: str
    action: _policy_pb2.PromptAction
    dry_run: bool
    def __init__(self, concept: _Optional[str] = ..., category: _Optional[_Union[_policy_pb2.Concept.Category, str]] = ..., phrase: _Optional[str] = ..., action: _Optional[_Union[_policy_pb2.PromptAction, str]] = ..., dry_run: _Optional[bool] = ...) -> None: ...
