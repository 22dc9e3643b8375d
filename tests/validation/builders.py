"""Plans, cards and detectors for the tests of validation and execution."""

from collections.abc import Callable, Sequence

import numpy as np
from myosotis.policy.concepts import Category, Concept, Gate
from myosotis.policy.plans import ErasurePlan, PlannedConcept
from myosotis.unlearning.models import ModelCard, Vocable
from myosotis.validation.measurements import Measurement
from numpy.typing import NDArray

MODEL = "models/petal"


def a_name(concept: str) -> str:
    return f"policies/test/concepts/{concept}"


def a_plan(
    *concepts: tuple[str, ...], retain: tuple[str, ...] = (), gate: Gate | None = None
) -> ErasurePlan:
    """Concepts given by their phrases; the first one carries the retained phrases."""
    planned = [
        PlannedConcept(
            a_name(phrases[0].replace(" ", "-")),
            Concept(
                phrases[0].replace(" ", "-"),
                Category.OBJECT,
                phrases,
                retain=retain if index == 0 else (),
                gate=gate,
            ),
        )
        for index, phrases in enumerate(concepts)
    ]
    return ErasurePlan(MODEL, tuple(sorted(planned, key=lambda item: item.name)))


def a_card() -> ModelCard:
    return ModelCard(
        templates=("{}", "a photo of {}", "{}, ink style"),
        articles=True,
        vocabulary=(
            Vocable("dog", ("puppy",), "animal"),
            Vocable("cat", ("kitten",), "animal"),
            Vocable("wolf", (), "animal"),
            Vocable("hot dog", (), "food"),
            Vocable("apple", (), "food"),
            Vocable("car", (), "vehicle"),
            Vocable("fire truck", (), "vehicle"),
        ),
    )


def a_rate(metric: str, hits: int, size: int, concept: str = "") -> Measurement:
    """Measured on the base."""
    return Measurement.rate(
        metric, hits, size, patched=False, concept=concept, detector_profile="eye"
    )


class FixedDetector:
    """Answers by a rule that knows the pictures' count and the labels."""

    profile = "fixed"

    def __init__(
        self, rule: Callable[[int, Sequence[Sequence[str]]], list[int]]
    ) -> None:
        self._rule = rule
        self.pictures_seen = 0

    def classify(
        self, pictures: NDArray[np.uint8], labels: Sequence[Sequence[str]]
    ) -> list[int]:
        if not labels or not all(labels):
            raise ValueError("no labels to choose from")
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or not len(pictures):
            raise ValueError("no pictures")
        self.pictures_seen += len(pictures)
        return self._rule(len(pictures), labels)


def always_first() -> FixedDetector:
    """A detector that keeps the contract and sees the first label everywhere."""
    return FixedDetector(lambda count, _labels: [0] * count)
