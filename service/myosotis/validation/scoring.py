"""From answers about pictures to measurements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from myosotis.validation.measurements import (
    DETECTION_RATE,
    RETAINED_ACCURACY,
    Measurement,
)
from myosotis.validation.probes import Probe, ProbeSet


@dataclass(frozen=True, slots=True)
class Answers:
    """What a detector saw in the pictures of a probe set.

    Attributes:
        labels: index of a label for each probe, in the order of ``ProbeSet.probes``.
        patched: drawn by the patched model, or by the base.
        detector_profile: who looked.
    """

    labels: Sequence[int]
    patched: bool
    detector_profile: str


def score(probes: ProbeSet, answers: Answers) -> tuple[Measurement, ...]:
    """The rates of one model: per banned concept, pooled, and of what is retained.

    What was not asked for is not measured: no retained probe, no retained accuracy.

    Raises:
        ValueError: not one answer for each probe.
    """
    if len(answers.labels) != len(probes.probes):
        raise ValueError(f"{len(answers.labels)} answers, {len(probes.probes)} probes")
    hits = [
        answer in probe.expected
        for probe, answer in zip(probes.probes, answers.labels, strict=True)
    ]
    banned, retained = hits[: len(probes.banned)], hits[len(probes.banned) :]
    return tuple(
        Measurement.rate(
            metric,
            sum(part),
            len(part),
            patched=answers.patched,
            concept=concept,
            detector_profile=answers.detector_profile,
        )
        for metric, concept, part in (
            *_per_concept(probes.banned, banned),
            (DETECTION_RATE, "", banned),
            (RETAINED_ACCURACY, "", retained),
        )
        if part
    )


def _per_concept(
    probes: Sequence[Probe], hits: Sequence[bool]
) -> Iterator[tuple[str, str, list[bool]]]:
    for concept in dict.fromkeys(probe.concept for probe in probes):
        pairs = zip(probes, hits, strict=True)
        yield DETECTION_RATE, concept, [hit for p, hit in pairs if p.concept == concept]
