from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from myosotis.execution.models import ModelSource, load_model
from myosotis.serving.slot import WeightSlot
from myosotis.unlearning.models import TextToImageModel

from tests.serving.generations import Forge
from tests.serving.golden import Golden


@pytest.fixture(scope="session")
def loaded() -> TextToImageModel:
    """Petal, as installed; only read."""
    return load_model(ModelSource.parse("models/petal"))


@pytest.fixture(scope="session")
def forge(loaded: TextToImageModel) -> Forge:
    return Forge(loaded.name, loaded.pipeline.unet)


@pytest.fixture
def model(loaded: TextToImageModel) -> TextToImageModel:
    """Petal with a pipeline and a UNet of its own."""
    parts = {**loaded.pipeline.components, "unet": deepcopy(loaded.pipeline.unet)}
    pipeline = type(loaded.pipeline)(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return TextToImageModel(loaded.name, pipeline, loaded.card)


@pytest.fixture(scope="session")
def golden(loaded: TextToImageModel, forge: Forge) -> Golden:
    parts = {**loaded.pipeline.components, "unet": deepcopy(loaded.pipeline.unet)}
    pipeline = type(loaded.pipeline)(**parts)
    return Golden(TextToImageModel(loaded.name, pipeline, loaded.card), forge)


@pytest.fixture
def slot(model: TextToImageModel) -> WeightSlot:
    return WeightSlot(model.name, model.pipeline.unet)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures are compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
