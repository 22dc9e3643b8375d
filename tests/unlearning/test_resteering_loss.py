import copy
import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from myosotis.errors import InvalidArgumentError, PreconditionError
from myosotis.unlearning.attention_masses import MassProcessor, MassUNet
from myosotis.unlearning.concept_tokens import TokenScope, concept_positions
from myosotis.unlearning.models import TextToImageModel
from myosotis.unlearning.resteering_loss import per_layer_loss, published_loss
from myosotis.unlearning.text import TextEncoder
from myosotis.unlearning.training_pictures import TrainingSettings, draw_training_set
from torch import Tensor

from tests.unlearning.plans import banned, plan_of

PROMPTS = ("a bomb, noto style", "an emoji of a santa claus")
SPANS = ((2, 6), (14, 25))


@pytest.fixture
def unet(tiny: TextToImageModel) -> UNet2DConditionModel:
    return copy.deepcopy(tiny.pipeline.unet)


@pytest.fixture
def inputs(tiny: TextToImageModel) -> tuple[Tensor, Tensor, Tensor]:
    """Two noised latents, their timesteps and text."""
    numbers = torch.Generator().manual_seed(1)
    text = TextEncoder(tiny)
    return (
        torch.randn((2, 4, 8, 8), generator=numbers),
        torch.tensor([10, 700]),
        text.encode(text.token_ids(PROMPTS, concept="x")),
    )


@pytest.fixture
def selected(tiny: TextToImageModel) -> Tensor:
    return torch.stack(
        [
            concept_positions(tiny.pipeline.tokenizer, prompt, span, TokenScope.CONCEPT)
            for prompt, span in zip(PROMPTS, SPANS, strict=True)
        ]
    )


def naive_published_loss(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    positions: list[int],
) -> float:
    """The paper's loss of one sample, from what the library's own layers project.

    Queries and keys are overheard; probabilities are made head by head, concept columns
    cut out of each and joined, as the published code does.
    """
    heard: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: heard.__setitem__(name, out)
        )
        for name, module in unet.named_modules()
        if name.endswith(("attn2.to_q", "attn2.to_k"))
    ]
    unet(latents, timestep, text)
    for hook in hooks:
        hook.remove()
    columns = []
    for name in sorted({key.rsplit(".", 1)[0] for key in heard}):
        heads = unet.get_submodule(name).heads
        q, k = heard[f"{name}.to_q"][0], heard[f"{name}.to_k"][0]
        size = q.shape[-1] // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            columns.append(scores.softmax(-1)[:, positions].flatten())
    return float(torch.cat(columns).norm(2))


def test_at_batch_one_it_is_the_published_loss(
    unet: UNet2DConditionModel,
    inputs: tuple[Tensor, Tensor, Tensor],
    selected: Tensor,
) -> None:
    latents, timesteps, text = (part[:1] for part in inputs)
    expected = naive_published_loss(
        unet, latents, timesteps, text, selected[0].nonzero().flatten().tolist()
    )
    masses = MassUNet(unet).masses(latents, timesteps, text)
    assert float(published_loss(masses, selected[:1])) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("loss", [published_loss, per_layer_loss])
def test_in_a_batch_each_sample_keeps_its_own_tokens(
    loss: object,
    unet: UNet2DConditionModel,
    inputs: tuple[Tensor, Tensor, Tensor],
    selected: Tensor,
) -> None:
    """Upstream's masks are wrong from a batch of two on; the two differ here."""
    assert callable(loss)
    assert not torch.equal(selected[0], selected[1])
    both = MassUNet(unet)
    whole = loss(both.masses(*inputs), selected)
    singles = [
        loss(both.masses(*(part[i : i + 1] for part in inputs)), selected[i : i + 1])
        for i in range(2)
    ]
    assert float(whole) == pytest.approx(float(sum(singles)) / 2, rel=1e-5)
    swapped = loss(both.masses(*(part.flip(0) for part in inputs)), selected.flip(0))
    assert float(swapped) == pytest.approx(float(whole), rel=1e-5)


def test_our_processor_attends_as_the_librarys(
    tiny: TextToImageModel,
    unet: UNet2DConditionModel,
    inputs: tuple[Tensor, Tensor, Tensor],
) -> None:
    expected = tiny.pipeline.unet(*inputs).sample
    found = MassUNet(unet).unet(*inputs).sample
    assert torch.allclose(found, expected, atol=1e-5)


def test_masses_of_all_tokens_are_a_probability(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Squared probabilities over 24 tokens lie between 1/24 and 1 for each query."""
    masses = MassUNet(unet).masses(*inputs)
    everything = torch.ones(2, 24, dtype=torch.bool)
    assert len(masses) == 4
    assert 1 / 24 <= float(per_layer_loss(masses, everything)) <= 1


def test_the_gradient_reaches_the_keys(
    unet: UNet2DConditionModel,
    inputs: tuple[Tensor, Tensor, Tensor],
    selected: Tensor,
) -> None:
    unet.requires_grad_(requires_grad=True)
    torch.autograd.backward(published_loss(MassUNet(unet).masses(*inputs), selected))
    for name, weight in unet.named_parameters():
        if name.endswith("attn2.to_k.weight"):
            assert weight.grad is not None
            assert bool(weight.grad.any())


def test_a_mass_is_taken_once() -> None:
    with pytest.raises(PreconditionError):
        MassProcessor().take()


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        (TokenScope.CONCEPT, 2),
        (TokenScope.CONCEPT_AND_END, 3),
        (TokenScope.CONCEPT_AND_AFTER, 22),
    ],
)
def test_scopes_select_what_they_say(
    tiny: TextToImageModel, scope: TokenScope, count: int
) -> None:
    """A prompt of one article, two words of one token each, and padding to 24."""
    tokenizer = tiny.pipeline.tokenizer
    positions = concept_positions(tokenizer, "a red rose", (2, 10), scope)
    assert int(positions.sum()) == count
    assert bool(positions[2])
    assert not bool(positions[:2].any())


def test_a_phrase_without_a_token_is_refused(tiny: TextToImageModel) -> None:
    with pytest.raises(InvalidArgumentError):
        concept_positions(
            tiny.pipeline.tokenizer, "a  house", (1, 3), TokenScope.CONCEPT
        )


def test_the_templates_own_words_are_not_the_concept(tiny: TextToImageModel) -> None:
    """The concept *emoji* in *an emoji of {}* is the second one."""
    training = draw_training_set(
        tiny,
        plan_of(banned("emoji")).concepts,
        TrainingSettings(pictures=2, scope=TokenScope.CONCEPT),
        seed="",
        on_batch=lambda: None,
        on_step=lambda _step: None,
    )
    tokenizer = tiny.pipeline.tokenizer
    words = tokenizer("an emoji of an emoji", return_offsets_mapping=True)
    second = [begin >= 15 for begin, end in words.offset_mapping if end > begin]
    assert training.selected[1, 1 : 1 + len(second)].tolist() == second
