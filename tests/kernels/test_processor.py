# Whatever a model takes, its stand-ins take.
# ruff: noqa: ANN401

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from myosotis_kernels.cross_attention.masses import AttentionMasses
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils.checkpoint import CheckpointError, checkpoint

from tests.kernels.inputs import relative_error

TEXT = 7
WIDTH = 24


def a_unet(**changes: Any) -> UNet2DConditionModel:
    """Two resolutions and four cross-attention layers, in the form of Stable Diffusion.

    The last layers before the output are cross-attention, as they are there.
    """
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
        **changes,
    )


def train_cross_attention(unet: nn.Module) -> dict[str, nn.Parameter]:
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("attn2" in name)
    return {n: p for n, p in unet.named_parameters() if p.requires_grad}


@pytest.fixture
def unet() -> UNet2DConditionModel:
    model = a_unet()
    train_cross_attention(model)
    return model


def some_inputs() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn((2, 4, 8, 8), generator=g),
        "timestep": torch.tensor([10, 500]),
        "encoder_hidden_states": torch.randn((2, TEXT, WIDTH), generator=g),
    }


def a_mask() -> Tensor:
    """Concept columns of two samples; they differ, and so do their numbers."""
    mask = torch.zeros(2, 1, TEXT)
    mask[0, 0, 2:4] = 1
    mask[1, 0, 5] = 1
    return mask


def resteering_loss(masses: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
    """The published loss: the norm of all concept probabilities of all layers."""
    columns = a_mask() if mask is None else mask
    return torch.stack([(a * columns).sum() for a in masses.values()]).sum().sqrt()


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    found = {
        name: None if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    model.zero_grad()
    return found


class PlainProcessor:
    """The published form: probabilities are materialised, listed, then masked."""

    def __init__(self, probabilities: list[Tensor]) -> None:
        self.probabilities = probabilities

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        q = attn.head_to_batch_dim(attn.to_q(hidden_states))
        k = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        v = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        p = attn.get_attention_scores(q, k, attention_mask)
        self.probabilities.append(p.unflatten(0, (-1, attn.heads)))
        return attn.to_out[0](attn.batch_to_head_dim(p @ v))


def plainly(unet: UNet2DConditionModel, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Run the model with the published form; return [B, H, N, L] of each layer."""
    probabilities: list[Tensor] = []
    former = dict(unet.attn_processors)
    unet.set_attn_processor(
        {
            name: PlainProcessor(probabilities) if ".attn2." in name else processor
            for name, processor in former.items()
        }
    )
    unet(**inputs)
    unet.set_attn_processor(former)
    return probabilities


def test_the_model_computes_what_it_did(unet: UNet2DConditionModel) -> None:
    wanted = unet(**some_inputs()).sample
    with AttentionMasses(unet) as masses, masses.collect():
        got = unet(**some_inputs()).sample
    # Two fp32 forms of one softmax.
    assert relative_error(got, wanted) < 1e-5


@pytest.mark.parametrize("power", [1, 2])
def test_the_masses_are_those_of_the_probabilities(
    unet: UNet2DConditionModel, power: int
) -> None:
    wanted = [p.pow(power).sum(dim=2) for p in plainly(unet, some_inputs())]
    with AttentionMasses(unet, power=power) as masses:
        got = masses.forward(**some_inputs())
    assert set(got) == set(masses.names)
    assert all(name.endswith("transformer_blocks.0.attn2") for name in got)
    # 8 x 8 pixels at the outer resolution, 4 x 4 in the middle.
    assert [masses.rows[name] for name in got] == [64, 16, 64, 64]
    for a, b in zip(got.values(), wanted, strict=True):
        assert a.dtype == torch.float32
        assert relative_error(a, b) < 1e-5


def fail_if(is_so: bool) -> None:  # noqa: FBT001
    if is_so:
        raise RuntimeError("spoilt")


def test_the_former_processors_come_back(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    masses = AttentionMasses(unet)
    with pytest.raises(RuntimeError, match="spoilt"), masses:
        fail_if(unet.attn_processors != before)
    assert unet.attn_processors == before


def test_steps_of_training_agree_with_the_published_form() -> None:
    ours, theirs = a_unet(), a_unet()
    start = a_unet()
    inputs = some_inputs()
    mask = a_mask()[:, :, None, :].bool()
    optimizers = [
        # No weight decay: it would move the weights that no gradient reaches alike.
        torch.optim.AdamW(
            train_cross_attention(m).values(), lr=1e-3, weight_decay=0, foreach=False
        )
        for m in (ours, theirs)
    ]
    for _ in range(4):
        with AttentionMasses(ours) as masses:
            resteering_loss(masses.forward(**inputs)).backward()
        selected = [p.masked_select(mask) for p in plainly(theirs, inputs)]
        torch.cat(selected).norm().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    last = "up_blocks.1.attentions.1.transformer_blocks.0.attn2"
    out_of_reach = {f"{last}.to_v.weight"} | {
        f"{last}.to_out.0.{part}" for part in ("weight", "bias")
    }
    b, c = (dict(model.state_dict()) for model in (theirs, start))
    for name, a in ours.state_dict().items():
        if "attn2" in name and name not in out_of_reach:
            # AdamW makes a whole step of the sign of a gradient, however small, so a
            # rounding may turn single weights; the rest agree to fp32.
            assert relative_error(a - c[name], b[name] - c[name]) < 0.01, name
        else:
            assert torch.equal(a, c[name])
            assert torch.equal(b[name], c[name])


def test_a_model_may_keep_the_processors(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    masses = AttentionMasses(unet)
    masses.install()
    with pytest.raises(RuntimeError, match="already"):
        masses.install()
    first, second = (masses.forward(**some_inputs()) for _ in range(2))
    for a, b in zip(first.values(), second.values(), strict=True):
        assert torch.equal(a, b)
    masses.remove()
    assert unet.attn_processors == before


def test_the_tail_after_the_last_cross_attention_is_skipped(
    unet: UNet2DConditionModel,
) -> None:
    ran: list[str] = []
    unet.conv_out.register_forward_hook(lambda *_: ran.append("conv_out"))
    last = unet.up_blocks[-1].attentions[-1]
    last.transformer_blocks[0].attn2.to_out[0].register_forward_hook(
        lambda *_: ran.append("to_out")
    )
    with AttentionMasses(unet) as masses:
        masses.forward(**some_inputs())
        assert not ran
        with masses.collect():
            unet(**some_inputs())
    assert ran == ["to_out", "conv_out"]


def test_what_the_loss_cannot_reach_gets_no_gradient(
    unet: UNet2DConditionModel,
) -> None:
    with AttentionMasses(unet) as masses:
        got = masses.forward(**some_inputs())
        resteering_loss(got).backward()
    last = list(got)[-1]
    without = {name for name, grad in gradients(unet).items() if grad is None}
    assert without == {
        f"{last}.{part}" for part in ("to_v.weight", "to_out.0.weight", "to_out.0.bias")
    }


def run(
    unet: UNet2DConditionModel,
    checkpointing: Callable[[AttentionMasses], Any] | None,
    row_weights: dict[int, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor | None]]:
    with AttentionMasses(unet) as masses:
        unet.disable_gradient_checkpointing()
        if checkpointing is not None:
            unet.enable_gradient_checkpointing(checkpointing(masses))
        loss = resteering_loss(masses.forward(**some_inputs(), row_weights=row_weights))
        loss.backward()
    unet.disable_gradient_checkpointing()
    return loss.detach(), gradients(unet)


OURS = {
    "ours": lambda masses: masses.checkpoint,
    "ours, reentrant": lambda masses: partial(masses.checkpoint, use_reentrant=True),
}
KINDS = {**OURS, "diffusers' default": lambda _: None}


def reentrant(module: nn.Module, *args: Any) -> Any:
    return checkpoint(module, *args, use_reentrant=True)


def assert_same_gradients(
    got: dict[str, Tensor | None], wanted: dict[str, Tensor | None]
) -> None:
    for name, grad in wanted.items():
        other = got[name]
        if grad is None:
            # A reentrant checkpoint says zero where the others say nothing.
            assert other is None or not other.any(), name
        else:
            assert other is not None, name
            assert relative_error(other, grad) < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", ["cross-attention", "last block", "all"])
def test_checkpointing_changes_no_gradient(
    unet: UNet2DConditionModel, kind: str, trained: str
) -> None:
    if trained == "all":
        unet.requires_grad_(requires_grad=True)
    elif trained == "last block":
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(name.startswith("up_blocks.1.attentions.1"))
    wanted_loss, wanted = run(unet, None)
    loss, got = run(unet, KINDS[kind])
    torch.testing.assert_close(loss, wanted_loss)
    assert any(grad is not None and grad.any() for grad in wanted.values())
    assert_same_gradients(got, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes(unet: UNet2DConditionModel, kind: str) -> None:
    calls: list[str] = []
    first = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    first.register_forward_hook(lambda *_: calls.append("forward"))
    run(unet, KINDS[kind])
    assert calls == ["forward"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_skips_the_tail(unet: UNet2DConditionModel, kind: str) -> None:
    ran: list[str] = []
    unet.conv_out.register_forward_hook(lambda *_: ran.append("conv_out"))
    run(unet, KINDS[kind])
    assert not ran


def test_leaving_a_checkpoint_early_leaves_nothing_of_it_behind(
    unet: UNet2DConditionModel,
) -> None:
    with AttentionMasses(unet) as masses:
        unet.enable_gradient_checkpointing()
        masses.forward(**some_inputs())
    # A checkpoint that is still open would keep a note in place of the next tensor.
    node = torch.ones(2, requires_grad=True).exp().grad_fn
    assert node is not None
    assert isinstance(node._raw_saved_result.data, Tensor)


@pytest.mark.parametrize("kind", OURS)
def test_checkpoints_remember_their_row_weights(
    unet: UNet2DConditionModel, kind: str
) -> None:
    weights = {64: torch.rand(2, 64)}
    plain = run(unet, None)
    wanted_loss, wanted = run(unet, None, weights)
    loss, got = run(unet, OURS[kind], weights)
    assert wanted_loss < plain[0]
    torch.testing.assert_close(loss, wanted_loss)
    assert_same_gradients(got, wanted)


def test_row_weights_under_other_checkpoints_fail_aloud(
    unet: UNet2DConditionModel,
) -> None:
    with pytest.raises(CheckpointError):
        run(unet, KINDS["diffusers' default"], {64: torch.rand(2, 64)})


def test_a_reentrant_checkpoint_that_hides_gradients_is_refused(
    unet: UNet2DConditionModel,
) -> None:
    unet.requires_grad_(requires_grad=True)
    with pytest.raises(RuntimeError, match="reentrant"):
        run(unet, lambda _: reentrant)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_in_flight_keep_their_own_graphs(
    unet: UNet2DConditionModel, kind: str
) -> None:
    inputs = some_inputs()
    other = {**inputs, "sample": inputs["sample"] * 0.5}
    wanted = []
    for given in (inputs, other):
        with AttentionMasses(unet) as masses:
            resteering_loss(masses.forward(**given)).backward()
        wanted.append(gradients(unet))
    with AttentionMasses(unet) as masses:
        unet.enable_gradient_checkpointing(KINDS[kind](masses))
        losses = [resteering_loss(masses.forward(**given)) for given in (inputs, other)]
        for loss, grads in zip(losses, wanted, strict=True):
            loss.backward()
            assert_same_gradients(gradients(unet), grads)


def test_two_forward_passes_in_one_collection_are_refused(
    unet: UNet2DConditionModel,
) -> None:
    with AttentionMasses(unet) as masses, masses.collect():
        unet(**some_inputs())
        with pytest.raises(RuntimeError, match="twice"):
            unet(**some_inputs())


def test_a_collection_within_a_collection_is_refused(
    unet: UNet2DConditionModel,
) -> None:
    with AttentionMasses(unet) as masses, masses.collect():  # noqa: SIM117
        with pytest.raises(RuntimeError, match="open already"):
            masses.forward(**some_inputs())


def test_a_backward_pass_inside_a_collection_is_not_counted_twice(
    unet: UNet2DConditionModel,
) -> None:
    with AttentionMasses(unet) as masses:
        unet.enable_gradient_checkpointing()
        with masses.collect() as taken:
            unet(**some_inputs())
            with pytest.raises(RuntimeError, match="twice"):
                resteering_loss(taken).backward()


def test_row_weights_select_rows(unet: UNet2DConditionModel) -> None:
    weights = torch.rand(2, 64)
    of_rows = {64: weights[:, None, :, None], 16: torch.ones(())}
    wanted = [
        (p.square() * of_rows[p.shape[2]]).sum(dim=2)
        for p in plainly(unet, some_inputs())
    ]
    with AttentionMasses(unet) as masses:
        got = masses.forward(**some_inputs(), row_weights={64: weights})
    for a, b in zip(got.values(), wanted, strict=True):
        assert relative_error(a, b) < 1e-5


def test_a_text_mask_reaches_the_keys(unet: UNet2DConditionModel) -> None:
    visible = torch.ones(2, TEXT)
    visible[0, 3:] = 0
    inputs = {**some_inputs(), "encoder_attention_mask": visible}
    wanted = unet(**inputs).sample
    with AttentionMasses(unet) as masses, masses.collect() as taken:
        got = unet(**inputs).sample
    assert relative_error(got, wanted) < 1e-5
    for mass in taken.values():
        assert not mass[0, :, 3:].any()
        assert mass[1].all()


def an_attention(**changes: Any) -> Attention:
    return Attention(query_dim=16, heads=2, dim_head=8, **changes)


class OneLayer(nn.Module):
    """A model that is nothing but one cross-attention layer."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attn2 = attention

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.attn2(*args, **kwargs)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"norm_num_groups": 4}, (2, 16, 3, 3)),
        ({"residual_connection": True, "rescale_output_factor": 2.0}, (2, 9, 16)),
        ({"cross_attention_norm": "layer_norm"}, (2, 9, 16)),
        ({"qk_norm": "layer_norm"}, (2, 9, 16)),
        ({"bias": True, "out_bias": False}, (2, 9, 16)),
        ({"scale_qk": False}, (2, 9, 16)),
    ],
)
def test_the_options_of_the_module_are_honoured(
    changes: dict[str, Any], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = OneLayer(an_attention(cross_attention_dim=WIDTH, **changes))
    x, text = torch.randn(shape), torch.randn(2, TEXT, WIDTH)
    wanted = model(x, encoder_hidden_states=text)
    with AttentionMasses(model) as masses, masses.collect():
        got = model(x, encoder_hidden_states=text)
    assert relative_error(got, wanted) < 1e-5


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"cross_attention_dim": WIDTH}, {"encoder_hidden_states": None}),
        ({"cross_attention_dim": WIDTH, "kv_heads": 1}, {}),
        ({"cross_attention_dim": WIDTH, "added_kv_proj_dim": 8}, {}),
        ({"cross_attention_dim": WIDTH}, {"attention_mask": torch.zeros(2, 9, TEXT)}),
        (
            {"cross_attention_dim": WIDTH},
            {"attention_mask": torch.ones(2, 1, TEXT, dtype=torch.bool)},
        ),
    ],
)
def test_what_is_not_supported_is_refused(
    changes: dict[str, Any], given: dict[str, Any]
) -> None:
    model = OneLayer(an_attention(**changes))
    given = {"encoder_hidden_states": torch.randn(2, TEXT, WIDTH), **given}
    with AttentionMasses(model) as masses, pytest.raises(ValueError):  # noqa: PT011
        masses.forward(torch.randn(2, 9, 16), **given)


def test_a_model_without_cross_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear"):
        AttentionMasses(nn.Linear(2, 2))


def test_masses_are_refused_before_the_processors_are_installed(
    unet: UNet2DConditionModel,
) -> None:
    with pytest.raises(RuntimeError, match="installed"):
        AttentionMasses(unet).forward(**some_inputs())


def test_a_step_reads_nothing_back_to_the_host() -> None:
    # Fake tensors have no values: whatever asks for one, as a host sync does, raises.
    with FakeTensorMode():
        unet = a_unet()
        parameters = train_cross_attention(unet)
        inputs = {
            "sample": torch.empty(2, 4, 8, 8),
            "timestep": torch.empty(2, dtype=torch.int64),
            "encoder_hidden_states": torch.empty(2, TEXT, WIDTH),
        }
        mask = torch.empty(2, 1, TEXT)
        with AttentionMasses(unet) as masses:
            loss = resteering_loss(masses.forward(**inputs), mask)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        assert sum(p.grad is None for p in parameters.values()) == 3
        # The published form in the same place does ask.
        probabilities = plainly(unet, inputs)
        with pytest.raises(DynamicOutputShapeException):
            probabilities[0].masked_select(mask[:, :, None, :].bool())
