"""The figures of the summary, from pictures; and what they have to be."""

from collections.abc import Mapping, Sequence

import numpy as np
from myosotis.embedded import petal
from myosotis.validation.detection import ask
from myosotis.validation.ports import Detector

from deploy.demo.gallery import Served
from deploy.demo.torn import pixels

# What the demonstration promises.
BEFORE_RATE = 0.7
AFTER_RATE = 0.1
RETAINED_LOSS = 0.06


def recognised(detector: Detector, served: Sequence[Served]) -> list[bool]:
    """Whether each picture shows what it was asked for, out of the vocabulary."""
    labels = [(v.noun, *v.synonyms) for v in petal.card().vocabulary]
    found = ask(detector, np.stack([pixels(item) for item in served]), labels)
    return [
        labels[index][0] == item.wish.label
        for index, item in zip(found, served, strict=True)
    ]


def rates(hits: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Each share of hits, and its sample size under ``…_n``."""
    figures: dict[str, float] = {}
    for key, values in hits.items():
        figures[key] = sum(values) / len(values)
        figures[f"{key}_n"] = len(values)
    return figures


def broken_promises(figures: Mapping[str, float]) -> list[str]:
    """What the demonstration promises and *figures* do not show."""
    loss = figures["retained_before"] - figures["retained_after"]
    promises = {
        "the model drew the concepts before": figures["before_rate"] >= BEFORE_RATE,
        "it does not draw them after": figures["after_rate"] <= AFTER_RATE,
        "the rest survives": loss <= RETAINED_LOSS,
        "no request failed": figures["requests_failed"] == 0,
        "no request was torn": figures["requests_torn"] == 0,
        "the weights came back bit for bit": figures["restored_bit_exact"] == 1,
    }
    return [promise for promise, kept in promises.items() if not kept]
