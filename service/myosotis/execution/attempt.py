"""One attempt at a plan: erase, build, evaluate, gate. Where it runs is others' work.

What is measured is what will be served: the patch is built first and staged in a weight
slot, as an inference server does it, bytes verified and root checked; the pictures are
drawn by the snapshot that comes out. Evidence is added to the manifest afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from myosotis.execution.staging import stage_patch
from myosotis.patches.building import BuiltPatch, Evidence, build_patch
from myosotis.patches.fingerprint import Fingerprint, fingerprints
from myosotis.serving.slot import WeightSlot
from myosotis.unlearning.erasing import erase
from myosotis.validation.detection import EvaluationError
from myosotis.validation.evaluator import UNWATCHED, BaseAnswers, Evaluator, Watching
from myosotis.validation.gate import GateResult, passed, refusal
from myosotis.validation.gating import judge_plan, unmeasured
from myosotis.validation.measurements import Measurement
from myosotis.validation.probes import DEFAULT_SIZES, SampleSizes, probe_set

if TYPE_CHECKING:
    from myosotis.policy.plans import ErasurePlan
    from myosotis.unlearning.models import TextToImageModel
    from myosotis.validation.ports import Detector


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a worker keeps between attempts at one model.

    Attributes:
        model: loaded; its UNet holds the base weights and nobody writes to it.
        detector: looks at every picture.
        slot: holds the base; patches are staged in it and never served.
        base: fingerprints of the base, by element type.
        base_answers: what the detector saw in pictures of the base.
    """

    model: "TextToImageModel"
    detector: "Detector"
    slot: WeightSlot
    base: Mapping[str, Fingerprint]
    base_answers: BaseAnswers = field(default_factory=dict)

    @classmethod
    def of(cls, model: "TextToImageModel", detector: "Detector") -> "Workbench":
        """Hash the base weights, once."""
        unet = model.pipeline.unet
        slot = WeightSlot(model.name, unet)
        return cls(model, detector, slot, fingerprints(unet.state_dict()))

    @property
    def evaluator(self) -> Evaluator:
        digest = self.base["F32"].root
        return Evaluator(self.model, self.detector, digest, self.base_answers)


@dataclass(frozen=True, slots=True)
class Order:
    """Who asks for an attempt, and how much of it.

    Attributes:
        created_at: ISO 8601, UTC; goes into the manifest.
        run_name: ``models/{model}/unlearningRuns/{run}``; empty when by hand.
        policy_revision: registry revision that asked; 0 when nobody did.
        seed: of erasing and of the probes, which derive different seeds from it.
        sizes: pictures to measure.
    """

    created_at: str = ""
    run_name: str = ""
    policy_revision: int = 0
    seed: int = 0
    sizes: SampleSizes = DEFAULT_SIZES


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended.

    Attributes:
        measurements: before and after; empty where the evaluation broke off, and for
            the empty plan.
        gate_results: what the gate said, at least one line.
        refusal: the lines that did not pass, in one line; empty when all passed.
        manifest: of the patch that passed, its exact bytes; empty when refused.
        tensor_file: its tensors; empty when refused, or when no tensor changes.
    """

    measurements: tuple[Measurement, ...]
    gate_results: tuple[GateResult, ...]
    refusal: str = ""
    manifest: bytes = b""
    tensor_file: bytes = b""


def attempt(
    bench: Workbench,
    plan: "ErasurePlan",
    order: Order,
    watching: Watching = UNWATCHED,
) -> AttemptOutcome:
    """Make the bench's model forget *plan*, and prove it or say why not.

    Nothing of the model changes. Equal arguments give equal patches and measurements.

    Raises:
        CancelledWorkError: *watching* asked to stop.
        InvalidArgumentError: the plan is for another model, or cannot be erased.
        PatchRefusedError: the patch that was built cannot be served.
    """
    erasure = erase(
        bench.model,
        plan,
        on_progress=watching.on_progress,
        cancelled=watching.cancelled,
        seed=order.seed,
    )
    evidence = Evidence(
        policy_revision=order.policy_revision,
        unlearning_run=order.run_name,
        created_at=order.created_at,
    )
    built = build_patch(
        bench.model, plan, erasure, evidence, base_fingerprints=bench.base
    )
    measured, lines = _proof(bench, plan, built, order, watching)
    if not passed(lines):
        return AttemptOutcome(measured, lines, refusal(lines))
    manifest = replace(built.manifest, measurements=measured, gate_results=lines)
    return AttemptOutcome(
        measured, lines, manifest=manifest.to_bytes(), tensor_file=built.content
    )


def _proof(
    bench: Workbench,
    plan: "ErasurePlan",
    built: BuiltPatch,
    order: Order,
    watching: Watching,
) -> tuple[tuple[Measurement, ...], tuple[GateResult, ...]]:
    """What was measured on the built patch, and what the gate says of it."""
    snapshot = stage_patch(bench.slot, built.manifest, built.content)
    probes = probe_set(bench.model.card, plan, seed=order.seed, sizes=order.sizes)
    try:
        measured = bench.evaluator.evaluate(probes, snapshot.unet, watching)
    except EvaluationError as error:
        return (), unmeasured(plan, str(error))
    changed = len(built.manifest.tensors)
    return measured, judge_plan(plan, measured, changed_tensors=changed)
