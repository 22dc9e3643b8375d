"""Pictures that people ask for, and what they are told."""

from dataclasses import dataclass
from typing import TypeAlias

from myosotis.errors import InvalidArgumentError
from myosotis.unlearning.models import ModelCard

MAX_PROMPT_CHARACTERS = 4_000
MAX_STEPS = 100
MAX_GUIDANCE = 30.0


@dataclass(frozen=True, slots=True)
class Order:
    """One picture to draw.

    Attributes:
        prompt: what to draw, 1 to 4,000 characters.
        seed: of the noise, from 0.
        step_count: denoising steps, 1 to 100.
        guidance_scale: classifier-free guidance, 1 to 30.
        min_generation: oldest generation that may answer; 0 means any.

    Raises:
        InvalidArgumentError: a field is out of its range.
    """

    prompt: str
    seed: int
    step_count: int
    guidance_scale: float
    min_generation: int = 0

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InvalidArgumentError("prompt", "empty")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidArgumentError(
                "prompt", f"longer than {MAX_PROMPT_CHARACTERS} characters"
            )
        if self.seed < 0:
            raise InvalidArgumentError("seed", "negative")
        if not 1 <= self.step_count <= MAX_STEPS:
            raise InvalidArgumentError("step_count", f"not 1 to {MAX_STEPS}")
        # Written so that NaN is refused too.
        if not 1 <= self.guidance_scale <= MAX_GUIDANCE:
            raise InvalidArgumentError("guidance_scale", f"not 1 to {MAX_GUIDANCE:g}")
        if self.min_generation < 0:
            raise InvalidArgumentError("min_generation", "negative")

    @classmethod
    def with_defaults(  # noqa: PLR0913 - one argument for each field of the request
        cls,
        card: ModelCard,
        *,
        prompt: str,
        seed: int,
        step_count: int,
        guidance_scale: float,
        min_generation: int,
    ) -> "Order":
        """As asked, with the model's own steps and guidance where 0 is given."""
        return cls(
            prompt,
            seed,
            step_count or card.step_count,
            guidance_scale or card.guidance_scale,
            min_generation,
        )

    def fits(self, other: "Order") -> bool:
        """Whether both can be drawn in one batch."""
        return (self.step_count, self.guidance_scale) == (
            other.step_count,
            other.guidance_scale,
        )


@dataclass(frozen=True, slots=True)
class StepMade:
    """A denoising step was made."""

    done_steps: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a picture comes from.

    Attributes:
        generation: drew it, from the first to the last step.
        patch_digest: SHA-256 of that generation's patch manifest.
        policy_revision: registry revision that the generation stands for.
        batch_size: pictures that were drawn together.
        batch_index: its place among them, from 0.
    """

    generation: int
    patch_digest: str
    policy_revision: int
    batch_size: int
    batch_index: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture.

    Attributes:
        png: the file.
        origin: where it comes from.
        order: what was asked for.
        seconds: from the start of its batch to the last step.
    """

    png: bytes
    origin: Origin
    order: Order
    seconds: float


Event: TypeAlias = StepMade | Picture | Exception
