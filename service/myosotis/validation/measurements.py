"""Measurements: a number with what is needed to believe it."""

import math
from dataclasses import dataclass
from typing import Self

DETECTION_RATE = "detection_rate"
RETAINED_ACCURACY = "retained_accuracy"

# Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Measurement:
    """A rate with its sample size and 95 % Wilson interval.

    Attributes:
        metric: ``detection_rate`` or ``retained_accuracy``.
        value: [0, 1].
        sample_size: pictures behind it, at least 1.
        low: lower end of the interval.
        high: upper end of the interval.
        patched: measured on the patched model, or on the base.
        concept: ``policies/*/concepts/*``; empty when pooled.
        detector_profile: detector, weights digest and rule, as one string.
    """

    metric: str
    value: float
    sample_size: int
    low: float
    high: float
    patched: bool
    concept: str = ""
    detector_profile: str = ""

    @classmethod
    def rate(  # noqa: PLR0913 - a rate is these six facts
        cls,
        metric: str,
        hits: int,
        sample_size: int,
        *,
        patched: bool,
        concept: str = "",
        detector_profile: str = "",
    ) -> Self:
        """*hits* of *sample_size* as a measurement.

        Raises:
            ValueError: for an empty sample: nothing measured is no measurement.
        """
        if not 0 <= hits <= sample_size or sample_size < 1:
            raise ValueError(f"{hits} of {sample_size} is no rate")
        low, high = wilson_interval(hits, sample_size)
        return cls(
            metric,
            hits / sample_size,
            sample_size,
            low,
            high,
            patched,
            concept,
            detector_profile,
        )


def wilson_interval(hits: int, sample_size: int) -> tuple[float, float]:
    """95 % score interval of a rate (Wilson 1927), within [0, 1]."""
    p, n = hits / sample_size, sample_size
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    # At the ends the bound is exact; the sum above would miss it by a rounding.
    low = centre - half if hits else 0.0
    high = centre + half if hits < sample_size else 1.0
    return max(0.0, low), min(1.0, high)
