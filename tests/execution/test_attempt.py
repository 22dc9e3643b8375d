from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from myosotis.errors import InvalidArgumentError
from myosotis.execution.attempt import AttemptOutcome, Order, Workbench, attempt
from myosotis.execution.staging import stage_patch
from myosotis.patches.manifest import PatchManifest
from myosotis.policy.concepts import Gate
from myosotis.unlearning.cancellation import CancelledWorkError
from myosotis.unlearning.models import TextToImageModel
from myosotis.validation.evaluator import Watching
from myosotis.validation.gate import Verdict, passed
from myosotis.validation.ports import Detector
from myosotis.validation.probes import SampleSizes

from tests.validation.builders import FixedDetector, a_name, a_plan, always_first

if TYPE_CHECKING:
    from myosotis.unlearning.runs import RunProgress

SIZES = SampleSizes(8, 8, 8, 8, 24)
ORDER = Order(
    created_at="2026-01-01T00:00:00+00:00",
    run_name="models/petal/unlearningRuns/1",
    policy_revision=7,
    sizes=SIZES,
)
# Small samples: one picture in 24 weighs four per cent.
PLAN = a_plan(("bomb",), gate=Gate(0.125, 0.25))


@pytest.fixture(scope="module")
def bench(petal: TextToImageModel, petal_detector: Detector) -> Workbench:
    return Workbench.of(petal, petal_detector)


@pytest.fixture(scope="module")
def forgotten(bench: Workbench) -> AttemptOutcome:
    return attempt(bench, PLAN, ORDER)


def test_one_concept_is_forgotten_and_the_rest_is_kept(
    forgotten: AttemptOutcome,
) -> None:
    rates = {(m.metric, m.patched): m.value for m in forgotten.measurements}
    assert rates["detection_rate", False] >= 0.7
    assert rates["detection_rate", True] <= 0.125
    assert passed(forgotten.gate_results), forgotten.refusal
    assert forgotten.refusal == ""


def test_the_manifest_binds_patch_plan_and_evidence(
    bench: Workbench, forgotten: AttemptOutcome
) -> None:
    manifest = PatchManifest.from_bytes(forgotten.manifest)
    assert manifest.base_digest == bench.base["F32"].root
    assert manifest.plan_digest == PLAN.digest
    assert manifest.policy_revision == 7
    assert manifest.unlearning_run == "models/petal/unlearningRuns/1"
    assert manifest.concepts == (a_name("bomb"),)
    assert manifest.measurements == forgotten.measurements
    assert manifest.gate_results == forgotten.gate_results


def test_what_was_proven_is_what_a_server_builds(
    bench: Workbench, forgotten: AttemptOutcome
) -> None:
    manifest = PatchManifest.from_bytes(forgotten.manifest)
    snapshot = stage_patch(bench.slot, manifest, forgotten.tensor_file)
    assert snapshot.tensor_root == manifest.tensor_roots["F32"]
    assert snapshot.applied_tensor_count > 0


def test_nothing_of_the_model_changes(
    bench: Workbench, forgotten: AttemptOutcome
) -> None:
    again = Workbench.of(bench.model, bench.detector)
    assert again.base == bench.base
    assert forgotten.manifest


def test_a_plan_that_the_gate_refuses_gives_no_patch(bench: Workbench) -> None:
    """Nothing in the vocabulary goes by this name, so it is not drawn before."""
    outcome = attempt(bench, a_plan(("sousaphone",)), ORDER)
    assert outcome.manifest == outcome.tensor_file == b""
    assert "known_concept" in outcome.refusal
    assert outcome.measurements


def test_the_empty_plan_gives_a_patch_that_changes_nothing(bench: Workbench) -> None:
    outcome = attempt(bench, a_plan(), ORDER)
    assert passed(outcome.gate_results)
    assert outcome.tensor_file == b""
    manifest = PatchManifest.from_bytes(outcome.manifest)
    assert manifest.tensors == ()
    assert manifest.tensor_roots["F32"] == manifest.base_digest
    snapshot = stage_patch(bench.slot, manifest, b"")
    base = bench.model.pipeline.unet.state_dict()
    for name, tensor in snapshot.unet.state_dict().items():
        assert torch.equal(tensor, base[name])


def raises() -> list[int]:
    raise RuntimeError("no memory")


@pytest.mark.parametrize(
    "answer",
    [raises, list, lambda: [float("nan")] * 8, lambda: [9999] * 8],
    ids=["raises", "nothing", "nan", "out of range"],
)
def test_a_detector_that_fails_ends_in_error_and_no_patch(
    hasty_petal: TextToImageModel, answer: Callable[[], list[int]]
) -> None:
    detector = FixedDetector(lambda _count, _labels: answer())
    outcome = attempt(Workbench.of(hasty_petal, detector), PLAN, ORDER)
    assert {line.verdict for line in outcome.gate_results} == {Verdict.ERROR}
    assert outcome.manifest == outcome.tensor_file == b""
    assert outcome.measurements == ()
    assert "detector failed" in outcome.refusal
    assert "\n" not in outcome.refusal


def test_progress_names_the_phases_in_order(hasty_petal: TextToImageModel) -> None:
    told: list[RunProgress] = []
    bench = Workbench.of(hasty_petal, always_first())
    attempt(bench, PLAN, ORDER, Watching(on_progress=told.append))
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases[-1] == "measure"
    assert told[-1].done_steps == told[-1].total_steps > 0


@pytest.mark.parametrize("asked", [0, 5])
def test_it_stops_when_asked(hasty_petal: TextToImageModel, asked: int) -> None:
    count = iter(range(1000))
    bench = Workbench.of(hasty_petal, always_first())
    with pytest.raises(CancelledWorkError):
        attempt(bench, PLAN, ORDER, Watching(cancelled=lambda: next(count) >= asked))
    assert next(count) == asked + 1


def test_a_plan_for_another_model_is_refused(bench: Workbench) -> None:
    with pytest.raises(InvalidArgumentError):
        attempt(bench, replace(PLAN, model="models/other"), ORDER)


def test_equal_orders_give_equal_outcomes(
    bench: Workbench, forgotten: AttemptOutcome
) -> None:
    """Also where the answers about the base are kept from the first time."""
    assert attempt(bench, PLAN, ORDER) == forgotten
