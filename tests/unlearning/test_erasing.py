from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from myosotis.errors import InvalidArgumentError
from myosotis.patches.building import Evidence, build_patch
from myosotis.patches.fingerprint import base_digest
from myosotis.patches.tensor_files import read_verified
from myosotis.patches.weights import patched_tensors
from myosotis.policy.concepts import Method
from myosotis.policy.plans import ErasurePlan
from myosotis.unlearning.attention_resteering import ResteeringSettings
from myosotis.unlearning.cancellation import CancelledWorkError
from myosotis.unlearning.changes import Change, Dense, changed_tensors
from myosotis.unlearning.erasing import Settings, erase
from myosotis.unlearning.erasures import Erasure
from myosotis.unlearning.models import ModelCard, TextToImageModel
from myosotis.unlearning.training_pictures import TrainingSettings
from torch import Tensor

from tests.unlearning.plans import banned, plan_of

if TYPE_CHECKING:
    from myosotis.unlearning.runs import RunProgress

QUICK = Settings(
    resteering=ResteeringSettings(
        steps=3, batch_size=2, training=TrainingSettings(pictures=3)
    )
)
SOLVED = banned("bomb")
RESTEERED = banned("santa claus", method=Method.ATTENTION_RESTEERING)
BOTH = plan_of(SOLVED, RESTEERED)


def weights(model: TextToImageModel, erasure: Erasure) -> dict[str, Tensor]:
    return changed_tensors(model.pipeline.unet.state_dict(), erasure.changes)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def test_the_empty_plan_changes_nothing(tiny: TextToImageModel) -> None:
    erasure = erase(tiny, plan_of())
    built = build_patch(tiny, plan_of(), erasure, Evidence())
    assert (dict(erasure.changes), built.content) == ({}, b"")
    assert built.manifest.tensor_file is None
    assert built.manifest.tensor_roots["F32"] == built.manifest.base_digest


@pytest.mark.parametrize(
    "plan",
    [plan_of(SOLVED), plan_of(RESTEERED), BOTH],
    ids=["solved", "resteered", "both"],
)
def test_it_repeats_itself_and_never_writes_to_the_base(
    tiny: TextToImageModel, plan: ErasurePlan
) -> None:
    before = base_digest(tiny.pipeline.unet.state_dict())
    processors = dict(tiny.pipeline.unet.attn_processors)
    first = erase(tiny, plan, seed=1, settings=QUICK)
    torch.manual_seed(99)
    second = erase(tiny, plan, seed=1, settings=QUICK)
    assert first.changes
    assert same(weights(tiny, first), weights(tiny, second))
    assert base_digest(tiny.pipeline.unet.state_dict()) == before
    assert tiny.pipeline.unet.attn_processors == processors


def test_another_seed_gives_another_training(tiny: TextToImageModel) -> None:
    one, other = (
        weights(tiny, erase(tiny, plan_of(RESTEERED), seed=seed, settings=QUICK))
        for seed in (1, 2)
    )
    assert not same(one, other)


def test_methods_add_up_in_one_set_of_changes(tiny: TextToImageModel) -> None:
    """Re-steering starts from the closed form's weights and replaces them."""
    gentle = Settings(resteering=replace(QUICK.resteering, learning_rate=1e-5))
    words = tuple(v for v in tiny.card.vocabulary if v.noun != "santa claus")
    model = replace(tiny, card=replace(tiny.card, vocabulary=words))
    alone = weights(model, erase(model, plan_of(SOLVED), settings=gentle))
    erasure = erase(model, BOTH, settings=gentle)
    together = weights(model, erasure)
    base = model.pipeline.unet.state_dict()
    assert alone.keys() <= together.keys()
    moved = {n: float((together[n] - tensor).norm()) for n, tensor in alone.items()}
    assert any(moved.values())
    for name, tensor in alone.items():
        assert moved[name] < 0.1 * float((tensor - base[name]).norm())
    assert dict(erasure.methods) == {
        SOLVED.name: Method.CLOSED_FORM,
        RESTEERED.name: Method.ATTENTION_RESTEERING,
    }
    assert set(erasure.seconds) == {Method.CLOSED_FORM, Method.ATTENTION_RESTEERING}


def test_re_steering_lowers_the_attention(tiny: TextToImageModel) -> None:
    # Without retention: between random embeddings there is nothing to keep apart.
    resteering = replace(
        QUICK.resteering, steps=40, batch_size=8, learning_rate=3e-3, retention=0.0
    )
    settings = Settings(resteering=resteering)
    found = erase(tiny, plan_of(RESTEERED), settings=settings).diagnostics
    first = found["attention_resteering.attention_first"]
    # Single steps differ by a few percent, since each draws its own noise.
    assert 0 < found["attention_resteering.attention_last"] < 0.9 * first


def test_a_loss_that_is_not_finite_is_an_error(tiny: TextToImageModel) -> None:
    settings = Settings(resteering=replace(QUICK.resteering, learning_rate=1e30))
    with pytest.raises(InvalidArgumentError, match="diverged"):
        erase(tiny, plan_of(RESTEERED), settings=settings)


def test_progress_counts_up_to_its_total(tiny: TextToImageModel) -> None:
    told: list[RunProgress] = []
    erase(tiny, BOTH, settings=QUICK, on_progress=told.append)
    assert [p.done_steps for p in told] == list(range(1, len(told) + 1))
    assert {p.total_steps for p in told} == {len(told)}
    assert {p.phase for p in told} == {"erase"}


@pytest.mark.parametrize("patience", range(8))
def test_it_stops_at_any_step(tiny: TextToImageModel, patience: int) -> None:
    asked = iter(range(1000))
    with pytest.raises(CancelledWorkError):
        erase(tiny, BOTH, settings=QUICK, cancelled=lambda: next(asked) >= patience)


def test_a_plan_for_another_model_is_refused(tiny: TextToImageModel) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        erase(tiny, plan_of(SOLVED, model="models/other"))
    assert refused.value.field == "plan.model"


def test_a_model_without_vocabulary_can_forget(tiny: TextToImageModel) -> None:
    """Then the policy's own retain list and the empty prompt are all there is."""
    unknown = replace(tiny, card=ModelCard(step_count=2, image_size=16))
    erasure = erase(unknown, plan_of(banned("bomb", retain=("balloon",))))
    assert erasure.diagnostics["closed_form.target_residual"] < 0.9
    assert erase(unknown, plan_of(SOLVED)).changes


def test_what_is_built_is_what_was_erased(tiny: TextToImageModel) -> None:
    erasure = erase(tiny, BOTH, settings=QUICK)
    built = build_patch(tiny, BOTH, erasure, Evidence(policy_revision=3))
    manifest = type(built.manifest).from_bytes(built.manifest.to_bytes())
    base = tiny.pipeline.unet.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    tensors = read_verified(built.content, manifest, shapes)
    patched = patched_tensors(base, manifest, tensors)
    assert same(patched, weights(tiny, erasure))
    assert base_digest({**base, **patched}) == manifest.tensor_roots["F32"]
    assert manifest.base_digest == base_digest(base)
    assert manifest.concepts == (SOLVED.name, RESTEERED.name)
    assert manifest.policy_revision == 3
    assert build_patch(tiny, BOTH, erasure, Evidence(policy_revision=3)) == built


def test_a_type_that_cannot_hold_the_weights_has_no_root(
    tiny: TextToImageModel,
) -> None:
    plan = plan_of(SOLVED)
    name = "conv_in.bias"
    base = tiny.pipeline.unet.state_dict()
    changes: dict[str, Change] = {name: Dense(torch.full_like(base[name], 1e6))}
    erasure = Erasure(changes, {SOLVED.name: Method.CLOSED_FORM})
    manifest = build_patch(tiny, plan, erasure, Evidence()).manifest
    assert set(manifest.tensor_roots) == {"F32", "BF16"}


def test_an_erasure_of_another_plan_is_not_built(tiny: TextToImageModel) -> None:
    with pytest.raises(ValueError, match="not of this plan"):
        build_patch(tiny, BOTH, erase(tiny, plan_of(SOLVED)), Evidence())
