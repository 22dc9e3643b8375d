from pathlib import Path

import pytest
import torch
from myosotis.execution.models import ModelSource, load_model
from myosotis.execution.staging import MANIFEST_NAME, TENSOR_FILE_NAME
from myosotis.patches.building import Evidence, build_patch
from myosotis.policy.concepts import Method
from myosotis.unlearning.changes import LowRank
from myosotis.unlearning.erasures import Erasure

from tests.validation.builders import a_name, a_plan

TENSOR = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(scope="session")
def patch_content() -> tuple[bytes, bytes]:
    """Manifest and tensor file of a patch that changes one tensor of Petal."""
    model = load_model(ModelSource("models/petal"))
    outputs, inputs = model.pipeline.unet.state_dict()[TENSOR].shape
    numbers = torch.Generator().manual_seed(0)
    change = LowRank(
        torch.randn((outputs, 1), generator=numbers),
        torch.randn((1, inputs), generator=numbers),
    )
    erasure = Erasure({TENSOR: change}, {a_name("dog"): Method.CLOSED_FORM})
    built = build_patch(model, a_plan(("dog",)), erasure, Evidence())
    return built.manifest.to_bytes(), built.content


@pytest.fixture
def patch_folder(patch_content: tuple[bytes, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "patch"
    folder.mkdir()
    (folder / MANIFEST_NAME).write_bytes(patch_content[0])
    (folder / TENSOR_FILE_NAME).write_bytes(patch_content[1])
    return folder
