"""How the recipe trains: its optimiser, its noise, its states on disk."""

from pathlib import Path

import pytest
import torch
from myosotis.embedded.recipe import autoencoder, diffusion, unet
from myosotis.embedded.recipe.average import Average
from myosotis.embedded.recipe.checkpoints import Checkpoint
from myosotis.embedded.recipe.latents import Cache
from myosotis.embedded.recipe.optimiser import (
    Crew,
    MuonAdamW,
    Rates,
    orthogonalised,
    warmup_stable_decay,
)
from myosotis.embedded.recipe.settings import Settings
from myosotis.embedded.recipe.text_tower import WIDTH, contrast, spread

RATES = Rates(0.02, 0.01, decay=0.0)


def a_network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16)
    )


def a_step(network: torch.nn.Module, optimiser: MuonAdamW, step: int) -> float:
    inputs = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
    loss = (network(inputs) - inputs).square().mean()
    network.zero_grad()
    loss.backward()
    optimiser.step(1.0)
    return loss.item()


def test_orthogonalised_singular_values_are_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((24, 96), (96, 24)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape), 5))
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_training_lowers_the_loss() -> None:
    network = a_network()
    optimiser = MuonAdamW.of(network, RATES)
    losses = [a_step(network, optimiser, step) for step in range(150)]
    assert losses[-1] < losses[0] / 2


def test_a_crew_divides_the_matrices_and_steps_as_one() -> None:
    alone = a_network()
    a_step(alone, MuonAdamW.of(alone, RATES), 0)
    flats = []
    for rank in range(2):
        member = a_network()
        crew = Crew(rank, 2, lambda flat: flats.append(flat.clone()))
        a_step(member, MuonAdamW.of(member, RATES, crew), 0)
    together = a_network()

    def add_up(flat: torch.Tensor) -> None:
        flat.copy_(flats[0] + flats[1])

    a_step(together, MuonAdamW.of(together, RATES, Crew(0, 2, add_up)), 0)
    for one, other in zip(alone.parameters(), together.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path: Path) -> None:
    straight = a_network()
    optimiser, average = MuonAdamW.of(straight, RATES), Average(straight, 0.9)
    for step in range(4):
        a_step(straight, optimiser, step)
        average.update(step)
        if step == 1:
            Checkpoint.of(2, straight, average, optimiser).save(tmp_path / "state")
    resumed = a_network()
    optimiser, mean = MuonAdamW.of(resumed, RATES), Average(resumed, 0.9)
    saved = Checkpoint.load(tmp_path / "state")
    assert saved is not None
    for step in range(saved.restore(resumed, mean, optimiser), 4):
        a_step(resumed, optimiser, step)
        mean.update(step)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    for name, value in average.state().items():
        assert torch.equal(value, mean.state()[name])


def test_a_stage_that_never_ran_has_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoint.load(tmp_path / "nothing") is None


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [
        warmup_stable_decay(step, warmup=10, stable=50, decay=50) for step in range(100)
    ]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == rates[49] == 1.0
    assert sorted(rates[50:], reverse=True) == rates[50:]
    assert rates[-1] < 0.05


def test_the_last_timestep_keeps_no_signal() -> None:
    kept = diffusion.scheduler().alphas_cumprod
    assert kept[-1].item() == 0.0
    assert kept[0].item() > 0.99


def test_timesteps_are_spread_and_lean_to_the_noise() -> None:
    timesteps = diffusion.draw_timesteps(1000, torch.Generator().manual_seed(0))
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    assert (timesteps > 500).float().mean() == pytest.approx(0.685, abs=0.02)


def test_the_velocity_gives_the_latents_back() -> None:
    latents, noise = torch.randn(3, 4, 16, 16), torch.randn(3, 4, 16, 16)
    kept = torch.tensor([0.0, 0.3, 0.9])
    noisy, velocity = diffusion.noised(latents, noise, kept)
    share = kept[:, None, None, None]
    told = share.sqrt() * noisy - (1 - share).sqrt() * velocity
    torch.testing.assert_close(told, latents, atol=1e-5, rtol=1e-5)


def test_whitening_changes_the_latents_and_not_the_pictures() -> None:
    torch.manual_seed(0)
    network = autoencoder.build()
    pictures = torch.rand(6, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = network.decode(network.encode(pictures).latent_dist.mode()).sample
        autoencoder.whiten(network, pictures)
        latents = network.encode(pictures).latent_dist.mode()
        after = network.decode(latents).sample
    torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)
    flat = latents.permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(torch.cov(flat), torch.eye(4), atol=1e-2, rtol=0)


def test_contrast_is_least_where_captions_fit() -> None:
    vectors = torch.eye(4)
    right = contrast(vectors, vectors, torch.eye(4).bool(), torch.tensor(16.0))
    wrong = contrast(vectors, vectors.flip(0), torch.eye(4).bool(), torch.tensor(16.0))
    assert right < 0.01 < wrong


def test_spread_is_larger_in_more_directions() -> None:
    ids = torch.tensor([[1, 2, 3]] * 8)
    narrow = torch.randn(8, 1, 1) * torch.ones(8, 3, 16)
    wide = torch.randn(8, 3, 16)
    assert spread(wide, ids, end=3) > spread(narrow, ids, end=3)


def test_the_denoiser_trains_saves_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unet, "BATCH", 2)
    settings = Settings(cache=tmp_path)
    torch.manual_seed(0)
    cache = Cache(
        torch.randn(8, 4, 16, 16).half(),
        torch.randint(0, 3, (8, 2), dtype=torch.int32),
        torch.arange(8, dtype=torch.int32),
        torch.randn(3, 24, WIDTH).half(),
    )
    cache.save(tmp_path / "latents.safetensors")
    unet.train(settings, unet.Plan(steps=1), rank=0, world=1)
    level = Checkpoint.load(settings.checkpoints / "unet")
    assert level is not None
    assert level.step == 1
    unet.train(settings, unet.Plan(steps=3, decay=2), rank=0, world=1)
    decayed = Checkpoint.load(settings.checkpoints / "unet-decayed")
    assert decayed is not None
    assert decayed.step == 3
    network = unet.averaged(settings.checkpoints / "unet-decayed")
    assert all(torch.isfinite(weight).all() for weight in network.parameters())
