from dataclasses import replace
from datetime import timedelta
from typing import Any

from myosotis.digests import Digest
from myosotis.patches.manifest import PatchedTensor, PatchManifest
from myosotis.policy.plans import ErasurePlan, desired_plans
from myosotis.rollout.generations import (
    Generation,
    InferenceServer,
    PublishedPatch,
    ServerRefusal,
)
from myosotis.unlearning.runs import UnlearningRun
from myosotis.validation.gate import judge
from myosotis.validation.measurements import Measurement

from tests.policy.builders import NOON, a_concept, a_policy

PETAL = "models/petal"
MINUTE = timedelta(minutes=1)

MEASURED = (
    Measurement.rate("detection_rate", 1, 20, patched=True, concept="policies/p"),
)
JUDGED = (
    judge("policies/p", "detection_rate", 0.05, 0.1),
    judge("", "retained_loss", None, 0.1),
)


def a_plan(phrase: str = "pistol", model: str = PETAL) -> ErasurePlan:
    policy = a_policy("weapons", a_concept(phrase), models=("models/*",))
    return desired_plans(model, [policy])[0]


def a_run(name: str = "r1", **fields: Any) -> UnlearningRun:  # noqa: ANN401 - any field
    plan = fields.pop("plan", a_plan())
    usual = UnlearningRun(f"{plan.model}/unlearningRuns/{name}", plan, 1, NOON, NOON)
    return replace(usual, **fields)


def a_patch(plan: ErasurePlan | None = None, *, minute: int = 0) -> PublishedPatch:
    plan = plan or a_plan()
    manifest = PatchManifest(
        model=plan.model,
        base_digest="b" * 64,
        plan_digest=plan.digest,
        policy_revision=1,
        concepts=tuple(item.name for item in plan.concepts),
        methods={item.name: "CLOSED_FORM" for item in plan.concepts},
        tensor_roots={"F32": "c" * 64},
        tensor_file=Digest.of(b"tensors"),
        tensors=(PatchedTensor("a.weight", (4, 4), "low_rank", ("u", "d"), 2),),
        measurements=MEASURED,
        gate_results=JUDGED,
    )
    digest = Digest.of(manifest.to_bytes())
    return PublishedPatch(manifest, digest, NOON + minute * MINUTE)


def a_generation(number: int = 1, model: str = PETAL) -> Generation:
    digest = Digest.of(str(number).encode())
    return Generation(model, number, a_plan().digest, 1, digest, NOON)


def a_server(name: str = "one", **fields: Any) -> InferenceServer:  # noqa: ANN401 - any field
    usual = InferenceServer(
        f"inferenceServers/{name}",
        PETAL,
        "b" * 64,
        NOON,
        active_generation=3,
        tensor_root="c" * 64,
        address="127.0.0.1:1",
        refusal=ServerRefusal(4, "BAD_BLOB", "half of it"),
    )
    return replace(usual, **fields)
