"""The denoiser's shape, the noise schedule, and the loss.

Shapes: B batch, C latent channels, H height, W width.
"""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

CHANNELS = (32, 64, 160)
HEAD_WIDTH = 32
_FOCUS = 0.6


def build(text_width: int) -> UNet2DConditionModel:
    """The denoiser, untrained. Text enters at 8 x 8 and at 4 x 4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=(
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=text_width,
        # The library calls the number of heads by this name.
        attention_head_dim=tuple(max(c // HEAD_WIDTH, 1) for c in CHANNELS),
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Noise down to nothing but noise, so that sampling starts where training did."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def draw_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps, spread evenly over a density that grows with the noise.

    What a picture shows is decided where there is much noise; below that the denoiser
    only sharpens, which it learns soon.
    """
    jitter = torch.rand(count, generator=generator)
    shares = (torch.arange(count) + jitter) / count
    return (shares**_FOCUS * 1000).long().clamp(max=999)


def noised(
    latents_BCHW: torch.Tensor,  # noqa: N803
    noise_BCHW: torch.Tensor,  # noqa: N803
    kept_B: torch.Tensor,  # noqa: N803
) -> tuple[torch.Tensor, torch.Tensor]:
    """The noisy latents and the velocity that the denoiser must tell.

    *kept_B* is the share of the signal's power that is left at each timestep.
    """
    signal = kept_B.sqrt()[:, None, None, None]
    spread = (1 - kept_B).sqrt()[:, None, None, None]
    return (
        signal * latents_BCHW + spread * noise_BCHW,
        signal * noise_BCHW - spread * latents_BCHW,
    )
