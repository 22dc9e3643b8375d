from collections.abc import Iterator

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from myosotis.embedded import petal
from myosotis.unlearning.models import ModelCard, TextToImageModel, Vocable
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 32


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> TextToImageModel:
    """A real pipeline of tiny size with random weights; only read."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(petal.folder() / "pipeline" / "tokenizer")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=24,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (text, unet, vae):
        part.eval().requires_grad_(requires_grad=False)
    pipeline.set_progress_bar_config(disable=True)
    words = ("dog", "cat", "rose", "bomb", "knife", "house")
    card = ModelCard(
        step_count=2,
        image_size=16,
        templates=("{}, noto style", "an emoji of {}"),
        articles=True,
        vocabulary=(*map(Vocable, words), Vocable("santa claus", ("santa",))),
    )
    return TextToImageModel("models/tiny", pipeline, card)
