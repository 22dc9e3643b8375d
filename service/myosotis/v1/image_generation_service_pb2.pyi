from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateImageRequest(_message.Message):
    __slots__ = ("prompt", "seed", "step_count", "guidance_scale", "min_generation")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    MIN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    seed: int
    step_count: int
    guidance_scale: float
    min_generation: int
    def __init__(self, prompt: _Optional[str] = ..., seed: _Optional[int] = ..., step_count: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., min_generation: _Optional[int] = ...) -> None: ...

class GenerateImageResponse(_message.Message):
    __slots__ = ("progress", "image")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    progress: StepProgress
    image: GeneratedImage
    def __init__(self, progress: _Optional[_Union[StepProgress, _Mapping]] = ..., image: _Optional[_Union[GeneratedImage, _Mapping]] = ...) -> None: ...

class StepProgress(_message.Message):
    __slots__ = ("done_steps", "total_steps")
    DONE_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    done_steps: int
    total_steps: int
    def __init__(self, done_steps: _Optional[int] = ..., total_steps: _Optional[int] = ...) -> None: ...

class GeneratedImage(_message.Message):
    __slots__ = ("png", "generation", "patch_digest", "policy_revision", "batch_size", "batch_index", "seed", "step_count", "guidance_scale", "seconds")
    PNG_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PATCH_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    png: bytes
    generation: int
    patch_digest: str
    policy_revision: int
    batch_size: int
    batch_index: int
    seed: int
    step_count: int
    guidance_scale: float
    seconds: float
    def __init__(self, png: _Optional[bytes] = ..., generation: _Optional[int] = ..., patch_digest: _Optional[str] = ..., policy_revision: _Optional[int] = ..., batch_size: _Optional[int] = ..., batch_index: _Optional[int] = ..., seed: _Optional[int] = ..., step_count: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seconds: _Optional[float] = ...) -> None: ...
