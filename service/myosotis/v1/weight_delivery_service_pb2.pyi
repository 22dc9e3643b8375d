from google.api import field_behavior_pb2 as _field_behavior_pb2
from myosotis.v1 import digest_pb2 as _digest_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscribeDirectivesRequest(_message.Message):
    __slots__ = ("hello", "acknowledgement", "refusal", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    acknowledgement: Acknowledgement
    refusal: Refusal
    heartbeat: Heartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class SubscribeDirectivesResponse(_message.Message):
    __slots__ = ("offer", "activate", "heartbeat")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    offer: Offer
    activate: Activate
    heartbeat: Heartbeat
    def __init__(self, offer: _Optional[_Union[Offer, _Mapping]] = ..., activate: _Optional[_Union[Activate, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("inference_server", "model", "base_digest", "active_generation", "tensor_root", "staged_generation", "address")
    INFERENCE_SERVER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    STAGED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    inference_server: str
    model: str
    base_digest: str
    active_generation: int
    tensor_root: str
    staged_generation: int
    address: str
    def __init__(self, inference_server: _Optional[str] = ..., model: _Optional[str] = ..., base_digest: _Optional[str] = ..., active_generation: _Optional[int] = ..., tensor_root: _Optional[str] = ..., staged_generation: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("nonce", "generation", "envelope")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    generation: int
    envelope: Envelope
    def __init__(self, nonce: _Optional[str] = ..., generation: _Optional[int] = ..., envelope: _Optional[_Union[Envelope, _Mapping]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("payload_type", "payload", "signatures")
    PAYLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    payload_type: str
    payload: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, payload_type: _Optional[str] = ..., payload: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("key_id", "value")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    value: bytes
    def __init__(self, key_id: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Activate(_message.Message):
    __slots__ = ("nonce", "generation")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    generation: int
    def __init__(self, nonce: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("nonce", "generation", "phase", "tensor_root", "applied_tensor_count", "seconds")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[Acknowledgement.Phase]
        STAGED: _ClassVar[Acknowledgement.Phase]
        ACTIVE: _ClassVar[Acknowledgement.Phase]
        RETIRED: _ClassVar[Acknowledgement.Phase]
    PHASE_UNSPECIFIED: Acknowledgement.Phase
    STAGED: Acknowledgement.Phase
    ACTIVE: Acknowledgement.Phase
    RETIRED: Acknowledgement.Phase
    NONCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    generation: int
    phase: Acknowledgement.Phase
    tensor_root: str
    applied_tensor_count: int
    seconds: float
    def __init__(self, nonce: _Optional[str] = ..., generation: _Optional[int] = ..., phase: _Optional[_Union[Acknowledgement.Phase, str]] = ..., tensor_root: _Optional[str] = ..., applied_tensor_count: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("nonce", "generation", "reason", "detail", "active_generation")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Refusal.Reason]
        MALFORMED_MANIFEST: _ClassVar[Refusal.Reason]
        WRONG_BASE: _ClassVar[Refusal.Reason]
        STALE_GENERATION: _ClassVar[Refusal.Reason]
        BAD_BLOB: _ClassVar[Refusal.Reason]
        TENSOR_MISMATCH: _ClassVar[Refusal.Reason]
        NOT_FINITE: _ClassVar[Refusal.Reason]
        WRONG_TENSOR_ROOT: _ClassVar[Refusal.Reason]
        NOT_STAGED: _ClassVar[Refusal.Reason]
        INTERNAL: _ClassVar[Refusal.Reason]
    REASON_UNSPECIFIED: Refusal.Reason
    MALFORMED_MANIFEST: Refusal.Reason
    WRONG_BASE: Refusal.Reason
    STALE_GENERATION: Refusal.Reason
    BAD_BLOB: Refusal.Reason
    TENSOR_MISMATCH: Refusal.Reason
    NOT_FINITE: Refusal.Reason
    WRONG_TENSOR_ROOT: Refusal.Reason
    NOT_STAGED: Refusal.Reason
    INTERNAL: Refusal.Reason
    NONCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    generation: int
    reason: Refusal.Reason
    detail: str
    active_generation: int
    def __init__(self, nonce: _Optional[str] = ..., generation: _Optional[int] = ..., reason: _Optional[_Union[Refusal.Reason, str]] = ..., detail: _Optional[str] = ..., active_generation: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadBlobRequest(_message.Message):
    __slots__ = ("digest", "read_offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    READ_OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: _digest_pb2.Digest
    read_offset: int
    def __init__(self, digest: _Optional[_Union[_digest_pb2.Digest, _Mapping]] = ..., read_offset: _Optional[int] = ...) -> None: ...

class ReadBlobResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
