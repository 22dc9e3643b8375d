from dataclasses import replace

import pytest
from myosotis.execution.models import ModelSource, load_detector, load_model
from myosotis.unlearning.models import TextToImageModel
from myosotis.validation.ports import Detector


@pytest.fixture(scope="session")
def petal() -> TextToImageModel:
    """Petal in four steps: fewer than it is shown with, enough to tell things apart."""
    model = load_model(ModelSource("models/petal"))
    return replace(model, card=replace(model.card, step_count=4))


@pytest.fixture(scope="session")
def petal_detector() -> Detector:
    return load_detector(ModelSource("models/petal"))


@pytest.fixture(scope="session")
def hasty_petal(petal: TextToImageModel) -> TextToImageModel:
    """Petal in one step, where nobody looks at the pictures."""
    return replace(petal, card=replace(petal.card, step_count=1))
