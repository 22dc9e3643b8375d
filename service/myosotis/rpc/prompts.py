"""ModerationService: prompts, checked by the control plane itself."""

import asyncio

import grpc.aio

from myosotis import names
from myosotis.errors import InvalidArgumentError, NotFoundError
from myosotis.moderation.decisions import PromptDecision, decide
from myosotis.moderation.phrases import PhraseMatcher
from myosotis.policy.plans import desired_plans
from myosotis.policy.policies import Registry
from myosotis.policy.ports import PolicyStore
from myosotis.rollout.ports import PatchStore, RunStore
from myosotis.v1 import (
    moderation_service_pb2,
    moderation_service_pb2_grpc,
    policy_pb2,
)

MAX_PROMPTS = 100
MAX_PROMPT_LENGTH = 4000


class ModerationServicer(moderation_service_pb2_grpc.ModerationServiceServicer):
    """Decides by the registry as it is stored at the moment of the call."""

    def __init__(
        self,
        *,
        models: frozenset[str],
        policies: PolicyStore,
        patches: PatchStore,
        runs: RunStore,
    ) -> None:
        self._models = models
        self._policies = policies
        self._patches = patches
        self._runs = runs
        # One matcher a model and one set a generation, of the newest revision only.
        self._matchers: dict[str, PhraseMatcher] = {}
        self._forgotten: dict[tuple[str, int], tuple[int, frozenset[str]]] = {}

    async def CheckPrompts(
        self,
        request: moderation_service_pb2.CheckPromptsRequest,
        context: grpc.aio.ServicerContext,
    ) -> moderation_service_pb2.CheckPromptsResponse:
        names.parse("model", request.model, field="model")
        if request.model not in self._models:
            raise NotFoundError(request.model)
        if not 1 <= len(request.prompts) <= MAX_PROMPTS:
            raise InvalidArgumentError("prompts", f"not 1 to {MAX_PROMPTS}")
        for index, prompt in enumerate(request.prompts):
            if len(prompt) > MAX_PROMPT_LENGTH:
                raise InvalidArgumentError(
                    f"prompts[{index}]", f"longer than {MAX_PROMPT_LENGTH} characters"
                )
        if request.generation < 0:
            raise InvalidArgumentError("generation", "negative")
        return await asyncio.to_thread(self._check, request)

    def _check(
        self, request: moderation_service_pb2.CheckPromptsRequest
    ) -> moderation_service_pb2.CheckPromptsResponse:
        registry = self._policies.registry()
        matcher = self._matcher(request.model, registry)
        forgotten = self._lacking(request.model, request.generation, registry)
        return moderation_service_pb2.CheckPromptsResponse(
            decisions=[
                _decision_to_wire(decide(matcher.matches(prompt), forgotten=forgotten))
                for prompt in request.prompts
            ],
            policy_revision=registry.revision,
        )

    def _matcher(self, model: str, registry: Registry) -> PhraseMatcher:
        matcher = self._matchers.get(model)
        if matcher is None or matcher.revision != registry.revision:
            matcher = PhraseMatcher(model, registry)
            self._matchers[model] = matcher
        return matcher

    def _lacking(
        self, model: str, generation: int, registry: Registry
    ) -> frozenset[str]:
        """Concepts that *generation* lacks in the form that they have now."""
        if generation == 0:
            return frozenset()
        key = (model, generation)
        revision, concepts = self._forgotten.get(key, (-1, frozenset()))
        if revision != registry.revision:
            plan_digest = self._patches.generation(model, generation).plan_digest
            run = self._runs.latest(model, plan_digest)
            then = set(run.plan.concepts) if run is not None else set()
            # The longest list of the model: the dry run's, where there is one.
            now = set(desired_plans(model, registry)[-1].concepts)
            concepts = frozenset(planned.name for planned in then & now)
            self._forgotten[key] = (registry.revision, concepts)
        return concepts


def _decision_to_wire(
    decision: PromptDecision,
) -> moderation_service_pb2.PromptDecision:
    return moderation_service_pb2.PromptDecision(
        action=policy_pb2.PromptAction.Value(decision.action),
        findings=[
            moderation_service_pb2.PromptFinding(
                concept=finding.concept,
                category=policy_pb2.Concept.Category.Value(finding.category),
                phrase=finding.phrase,
                action=policy_pb2.PromptAction.Value(finding.action),
                dry_run=finding.dry_run,
            )
            for finding in decision.findings
        ],
    )
