"""Measuring: the same prompts and seeds on the base and on the patched model."""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from myosotis.digests import fingerprint
from myosotis.unlearning.cancellation import Cancelled, stop_if
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.runs import RunProgress
from myosotis.validation.detection import NoPictureError, ask, profile
from myosotis.validation.scoring import Answers, score

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from numpy.typing import NDArray
    from torch import nn

    from myosotis.unlearning.models import TextToImageModel
    from myosotis.validation.measurements import Measurement
    from myosotis.validation.ports import Detector
    from myosotis.validation.probes import Probe, ProbeSet

PHASE = "measure"

BaseAnswers = MutableMapping[str, int]
"""What a detector saw in pictures of base models, kept from plan to plan.

The index of a label, under a digest of everything that decides it, labels included.
"""


@dataclass(frozen=True, slots=True)
class Watching:
    """How somebody follows a long measurement and stops it.

    Attributes:
        on_progress: told the pictures done and their total, at least once a batch.
        cancelled: asked after every denoising step.
    """

    on_progress: Callable[[RunProgress], None] = lambda _progress: None
    cancelled: Cancelled = lambda: False


UNWATCHED = Watching()


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Measures one model with one detector.

    Attributes:
        model: its pipeline's UNet holds the base weights.
        detector: looks at every picture.
        base_digest: of the base weights; part of what base answers are kept under.
        base_answers: kept answers; read, and added to.
        batch_size: pictures drawn together.
    """

    model: "TextToImageModel"
    detector: "Detector"
    base_digest: str
    base_answers: BaseAnswers = field(default_factory=dict)
    batch_size: int = 16

    def evaluate(
        self,
        probes: "ProbeSet",
        patched: "nn.Module | None" = None,
        watching: Watching = UNWATCHED,
    ) -> "tuple[Measurement, ...]":
        """The rates before, and after where *patched* is given; none without probes.

        Raises:
            EvaluationError: the detector raised or did not answer for every picture,
                or a model drew none. There is no partial result.
            CancelledWorkError: *watching* asked to stop.
        """
        if not probes.probes:
            return ()
        found = profile(self.detector)
        keys = {
            probe: self._key(probe, probes.labels, found) for probe in probes.probes
        }
        missing = [p for p, key in keys.items() if key not in self.base_answers]
        total = len(missing) + (len(probes.probes) if patched is not None else 0)
        look = _Look(self, probes.labels, watching, total)
        base = self.model.pipeline
        for probe, label in look.at(base, missing, done=0):
            self.base_answers[keys[probe]] = label
        before = [self.base_answers[keys[probe]] for probe in probes.probes]
        measured = score(probes, Answers(before, patched=False, detector_profile=found))
        if patched is None:
            return measured
        pipeline = with_unet(base, patched)
        after = [a for _, a in look.at(pipeline, probes.probes, done=len(missing))]
        return measured + score(
            probes, Answers(after, patched=True, detector_profile=found)
        )

    def _key(self, probe: "Probe", labels: tuple[tuple[str, ...], ...], by: str) -> str:
        card = self.model.card
        how = [
            self.model.name,
            self.base_digest,
            card.step_count,
            card.guidance_scale,
            card.image_size,
        ]
        return fingerprint([how, probe.prompt, probe.seed, by, labels])


@dataclass(frozen=True, slots=True)
class _Look:
    """Drawing and asking, batch by batch."""

    evaluator: Evaluator
    labels: tuple[tuple[str, ...], ...]
    watching: Watching
    total: int

    def at(
        self,
        pipeline: "StableDiffusionPipeline",
        probes: "Sequence[Probe]",
        *,
        done: int,
    ) -> "Iterator[tuple[Probe, int]]":
        """Each probe with the index of the label that its picture shows best."""
        size = self.evaluator.batch_size
        for start in range(0, len(probes), size):
            self._tell(done + start)
            batch = probes[start : start + size]
            pictures = self._drawn(pipeline, batch)
            answers = ask(self.evaluator.detector, pictures, self.labels)
            yield from zip(batch, answers, strict=True)
        self._tell(done + len(probes))

    def _drawn(
        self, pipeline: "StableDiffusionPipeline", probes: "Sequence[Probe]"
    ) -> "NDArray[np.uint8]":
        card = self.evaluator.model.card
        try:
            # NaN becomes black when it is cast, and black shows nothing banned.
            with np.errstate(invalid="raise"):
                return draw_batch(
                    pipeline,
                    [Drawing(probe.prompt, probe.seed) for probe in probes],
                    step_count=card.step_count,
                    guidance_scale=card.guidance_scale,
                    on_step=lambda _step: stop_if(self.watching.cancelled),
                )
        except FloatingPointError as error:
            raise NoPictureError from error

    def _tell(self, done: int) -> None:
        stop_if(self.watching.cancelled)
        self.watching.on_progress(RunProgress(PHASE, done, self.total))


def with_unet(
    pipeline: "StableDiffusionPipeline", unet: "nn.Module"
) -> "StableDiffusionPipeline":
    """A pipeline that shares every part of *pipeline* but draws with *unet*."""
    return type(pipeline)(**{**pipeline.components, "unet": unet})
