"""Asking a detector, and believing only a whole answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from myosotis.errors import MyosotisError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from myosotis.validation.ports import Detector


class EvaluationError(MyosotisError):
    """Nothing is known of pictures: neither that they show something, nor the rest."""


class NoPictureError(EvaluationError):
    """A model computed values that are not finite in place of a picture."""

    def __str__(self) -> str:
        return "the model draws values that are not finite"


@dataclass
class DetectorFailedError(EvaluationError):
    """A detector did not answer, or not what it was asked."""

    problem: str

    def __str__(self) -> str:
        return f"the detector failed: {self.problem}"


def ask(
    detector: "Detector",
    pictures: "NDArray[np.uint8]",
    labels: Sequence[Sequence[str]],
) -> list[int]:
    """Index of the label that each of *pictures*, uint8 [n, h, w, 3], shows best.

    Raises:
        DetectorFailedError: it raised, or it did not answer with exactly one whole
            number within the labels for each picture.
    """
    try:
        answers = list(detector.classify(pictures, labels))
    # Detectors are other people's code, and whatever stops one means the same.
    except Exception as error:
        message = " ".join(str(error).split())
        raise DetectorFailedError(f"{type(error).__name__}: {message}") from error
    if len(answers) != len(pictures):
        problem = f"{len(answers)} answers to {len(pictures)} pictures"
        raise DetectorFailedError(problem)
    for answer in answers:
        is_index = isinstance(answer, Integral) and not isinstance(answer, bool)
        if not is_index or not 0 <= answer < len(labels):
            problem = f"{answer!r} is no index of {len(labels)} labels"
            raise DetectorFailedError(problem)
    return [int(answer) for answer in answers]


def profile(detector: "Detector") -> str:
    """The detector's profile.

    Raises:
        DetectorFailedError: it has none, so nothing that it says can be traced.
    """
    if not detector.profile:
        raise DetectorFailedError("it has no profile")
    return detector.profile
