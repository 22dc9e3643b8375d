import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from myosotis.unlearning.cancellation import CancelledWorkError
from myosotis.unlearning.models import TextToImageModel
from myosotis.validation.detection import DetectorFailedError, NoPictureError
from myosotis.validation.evaluator import Evaluator, Watching, with_unet
from myosotis.validation.ports import Detector
from myosotis.validation.probes import ProbeSet, SampleSizes, probe_set

from tests.validation.builders import FixedDetector, a_plan, always_first

if TYPE_CHECKING:
    from myosotis.unlearning.runs import RunProgress

PICTURES = 16


@pytest.fixture(scope="module")
def probes(petal: TextToImageModel) -> ProbeSet:
    sizes = SampleSizes(8, 8, 8, 8, 8)
    return probe_set(petal.card, a_plan(("bomb",)), sizes=sizes)


def test_the_base_against_itself_gives_the_same_rates(
    petal: TextToImageModel, petal_detector: Detector, probes: ProbeSet
) -> None:
    measure = Evaluator(petal, petal_detector, "digest").evaluate
    rates = measure(probes, petal.pipeline.unet)
    before = {(r.metric, r.concept): r.value for r in rates if not r.patched}
    after = {(r.metric, r.concept): r.value for r in rates if r.patched}
    assert before == after
    assert before["detection_rate", ""] >= 0.7
    assert before["retained_accuracy", ""] >= 0.5
    assert {r.detector_profile for r in rates} == {petal_detector.profile}


def test_a_unet_that_draws_noise_keeps_nothing(
    petal: TextToImageModel, petal_detector: Detector, probes: ProbeSet
) -> None:
    ruined = copy.deepcopy(petal.pipeline.unet)
    torch.manual_seed(0)
    for parameter in ruined.parameters():
        parameter.copy_(torch.randn_like(parameter))
    rates = Evaluator(petal, petal_detector, "digest").evaluate(probes, ruined)
    retained = [r for r in rates if r.metric == "retained_accuracy"]
    assert retained[1].patched
    assert retained[1].value < retained[0].value


def test_answers_about_the_base_are_kept(
    hasty_petal: TextToImageModel, probes: ProbeSet
) -> None:
    detector = always_first()
    kept: dict[str, int] = {}
    first = Evaluator(hasty_petal, detector, "digest", kept).evaluate(probes)
    assert detector.pictures_seen == len(kept) == PICTURES
    assert Evaluator(hasty_petal, detector, "digest", kept).evaluate(probes) == first
    assert detector.pictures_seen == PICTURES
    assert not any(rate.patched for rate in first)


@pytest.mark.parametrize("change", ["base", "detector"])
def test_answers_about_another_base_or_by_another_detector_do_not_count(
    hasty_petal: TextToImageModel, probes: ProbeSet, change: str
) -> None:
    detector = always_first()
    kept: dict[str, int] = {}
    Evaluator(hasty_petal, detector, "digest", kept).evaluate(probes)
    digest = "another" if change == "base" else "digest"
    detector.profile = "another" if change == "detector" else detector.profile
    Evaluator(hasty_petal, detector, digest, kept).evaluate(probes)
    assert detector.pictures_seen == 2 * PICTURES


def test_progress_counts_every_picture_and_ends_at_the_total(
    hasty_petal: TextToImageModel, probes: ProbeSet
) -> None:
    told: list[RunProgress] = []
    evaluator = Evaluator(hasty_petal, always_first(), "digest", batch_size=4)
    evaluator.evaluate(
        probes, hasty_petal.pipeline.unet, Watching(on_progress=told.append)
    )
    done = [progress.done_steps for progress in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 2 * PICTURES)
    assert {(p.phase, p.total_steps) for p in told} == {("measure", 2 * PICTURES)}


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_it_stops_within_a_denoising_step(
    petal: TextToImageModel, probes: ProbeSet, steps: int
) -> None:
    asked = iter(range(1000))
    detector = always_first()
    evaluator = Evaluator(petal, detector, "digest")
    with pytest.raises(CancelledWorkError):
        evaluator.evaluate(
            probes, watching=Watching(cancelled=lambda: next(asked) >= steps)
        )
    assert next(asked) == steps + 1
    assert detector.pictures_seen == 0


def raises() -> list[int]:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    "answer",
    [raises, list, lambda: [0] * 7, lambda: [10_000] * 8, lambda: [float("nan")] * 8],
    ids=["raises", "nothing", "too few", "out of range", "nan"],
)
def test_a_detector_that_fails_in_the_middle_leaves_no_result(
    hasty_petal: TextToImageModel, probes: ProbeSet, answer: Callable[[], list[int]]
) -> None:
    calls = iter(range(1000))
    detector = FixedDetector(
        lambda count, _labels: [0] * count if next(calls) < 1 else answer()
    )
    evaluator = Evaluator(hasty_petal, detector, "digest", batch_size=8)
    with pytest.raises(DetectorFailedError):
        evaluator.evaluate(probes, hasty_petal.pipeline.unet)
    assert next(calls) == 2


def test_a_unet_that_computes_no_numbers_has_not_forgotten(
    hasty_petal: TextToImageModel, probes: ProbeSet
) -> None:
    """Its pictures are black, and nobody finds anything on them."""
    ruined = copy.deepcopy(hasty_petal.pipeline.unet)
    ruined.conv_out.bias.fill_(float("nan"))
    evaluator = Evaluator(hasty_petal, always_first(), "digest")
    with pytest.raises(NoPictureError):
        evaluator.evaluate(probes, ruined)


def test_no_probe_is_no_measurement(hasty_petal: TextToImageModel) -> None:
    empty = probe_set(hasty_petal.card, a_plan())
    evaluator = Evaluator(hasty_petal, always_first(), "digest")
    assert evaluator.evaluate(empty, hasty_petal.pipeline.unet) == ()


def test_a_pipeline_with_another_unet_shares_the_rest(
    hasty_petal: TextToImageModel,
) -> None:
    unet = copy.deepcopy(hasty_petal.pipeline.unet)
    other = with_unet(hasty_petal.pipeline, unet)
    assert other.unet is unet
    assert other.vae is hasty_petal.pipeline.vae
    assert hasty_petal.pipeline.unet is not unet
