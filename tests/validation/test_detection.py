"""The detector's contract, run on the real one and on the tests' own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from myosotis.execution.models import ModelSource, load_detector
from myosotis.validation.detection import DetectorFailedError, ask, profile
from myosotis.validation.ports import Detector

from tests.validation.builders import FixedDetector, always_first

LABELS = (("dog", "puppy"), ("bomb",), ("car",))
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(
    scope="module",
    params=[always_first, lambda: load_detector(ModelSource("models/petal"))],
    ids=["fixed", "petal"],
)
def detector(request: pytest.FixtureRequest) -> Detector:
    return request.param()  # type: ignore[no-any-return]  # one of the two above


def test_a_detector_says_who_it_is(detector: Detector) -> None:
    assert profile(detector) == detector.profile


def test_a_detector_answers_for_each_picture_with_a_label(detector: Detector) -> None:
    answers = ask(detector, PICTURES, LABELS)
    assert len(answers) == len(PICTURES)
    assert set(answers) <= set(range(len(LABELS)))
    assert answers == ask(detector, PICTURES, LABELS)


def test_a_detector_takes_pictures_of_any_size(detector: Detector) -> None:
    assert len(ask(detector, np.zeros((2, 48, 80, 3), np.uint8), LABELS)) == 2


@pytest.mark.parametrize("labels", [(), ((),), (("dog",), ())], ids=str)
def test_a_detector_refuses_to_choose_from_nothing(
    detector: Detector, labels: Sequence[Sequence[str]]
) -> None:
    with pytest.raises(ValueError, match="labels"):
        detector.classify(PICTURES, labels)


@pytest.mark.parametrize(
    "pictures",
    [PICTURES[:0], PICTURES[0], PICTURES.astype(np.float32)],
    ids=["none", "flat", "float"],
)
def test_a_detector_refuses_what_are_no_pictures(
    detector: Detector,
    pictures: Any,  # noqa: ANN401 - of the wrong type on purpose
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each words it in its own way
        detector.classify(pictures, LABELS)


def broken() -> list[int]:
    raise RuntimeError("the session\nis gone")


@pytest.mark.parametrize(
    "answer",
    [
        broken,
        list,
        lambda: None,
        lambda: [0, 1],
        lambda: [0, 1, 2, 0],
        lambda: [0, 1, 3],
        lambda: [0, -1, 1],
        lambda: [0, 1, math.nan],
        lambda: [0.0, 1.0, 2.0],
        lambda: [True, False, True],
        lambda: ["0", "1", "2"],
        lambda: [0, 1, None],
    ],
    ids=[
        *("raises", "empty", "nothing", "too few", "too many", "beyond", "negative"),
        *("nan", "floats", "booleans", "text", "one missing"),
    ],
)
def test_anything_but_a_whole_answer_is_a_failure(answer: Callable[[], Any]) -> None:
    detector = FixedDetector(lambda _count, _labels: answer())
    with pytest.raises(DetectorFailedError) as caught:
        ask(detector, PICTURES, LABELS)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    detector = FixedDetector(lambda count, _labels: np.arange(count))  # type: ignore[arg-type,return-value]  # on purpose
    assert ask(detector, PICTURES, LABELS) == [0, 1, 2]


def test_a_detector_without_profile_is_refused() -> None:
    detector = always_first()
    detector.profile = ""
    with pytest.raises(DetectorFailedError):
        profile(detector)
