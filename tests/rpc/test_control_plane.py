"""The control plane over its real port, store and folder."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from myosotis.digests import Digest
from myosotis.patches.manifest import GenerationManifest
from myosotis.policy.concepts import Category, Concept
from myosotis.policy.policies import Policy
from myosotis.policy.wire import policy_content_to_wire
from myosotis.transport.errors import from_rpc_error
from myosotis.v1 import (
    digest_pb2,
    fleet_service_pb2,
    moderation_service_pb2,
    patch_service_pb2,
    policy_pb2,
    policy_service_pb2,
    unlearning_run_pb2,
    unlearning_service_pb2,
    weight_delivery_service_pb2,
    worker_service_pb2,
)

from tests.rpc.conftest import Plane
from tests.rpc.work import a_manifest, claim, finish, write

State = unlearning_run_pb2.UnlearningRun.State
KNIFE = """\
name: policies/arms
models: ["models/petal"]
concepts:
  - {id: knife, category: HARMFUL, phrases: [knife], exceptions: [butter knife]}
"""


def a_policy(word: str = "knife", name: str = "policies/arms") -> policy_pb2.Policy:
    concept = Concept(word, Category.HARMFUL, (word,))
    return policy_content_to_wire(Policy(name, ("models/petal",), (concept,)))


async def apply(plane: Plane, policy: policy_pb2.Policy, **more: Any) -> Any:  # noqa: ANN401 - a message
    return await plane.policies.UpdatePolicy(
        policy_service_pb2.UpdatePolicyRequest(
            policy=policy, allow_missing=True, **more
        )
    )


async def check(
    plane: Plane, prompt: str, generation: int = 0
) -> moderation_service_pb2.PromptDecision:
    answer = await plane.moderation.CheckPrompts(
        moderation_service_pb2.CheckPromptsRequest(
            model="models/petal", prompts=[prompt], generation=generation
        )
    )
    return answer.decisions[0]


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:  # noqa: ANN401 - what it gives
    """What *condition* gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (result := await condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
    return result


async def reason(call: Awaitable[object]) -> str:
    """Type and fields of the error that *call* ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value, service="test")
    return f"{type(error).__name__} {error}"


async def generations(plane: Plane) -> list[Any]:
    answer = await plane.patches.ListGenerations(
        patch_service_pb2.ListGenerationsRequest(parent="models/petal")
    )
    return list(answer.generations)


async def test_a_prompt_is_refused_as_soon_as_a_policy_is_stored(plane: Plane) -> None:
    assert (await check(plane, "a knife")).action == policy_pb2.ALLOW
    await apply(plane, a_policy())
    decision = await check(plane, "Two KNIVES? no: a knife")
    assert decision.action == policy_pb2.BLOCK
    assert decision.findings[0].concept == "policies/arms/concepts/knife"


async def test_a_file_that_is_saved_and_deleted_is_in_force_and_out(
    plane: Plane,
) -> None:
    file = plane.folder / "arms.yaml"
    file.write_text(KNIFE)

    async def action() -> int:
        return (await check(plane, "a knife")).action

    await until(lambda: _is(action, policy_pb2.BLOCK))
    assert (await check(plane, "a butter knife")).action == policy_pb2.ALLOW
    file.unlink()
    await until(lambda: _is(action, policy_pb2.ALLOW))


async def test_a_broken_file_leaves_what_was_in_force(plane: Plane) -> None:
    file = plane.folder / "arms.yaml"
    file.write_text(KNIFE)
    await until(lambda: _is(lambda: _revision(plane), 1))
    file.write_text(KNIFE.replace("category", "kategory"))
    (plane.folder / "other.yaml").write_text(KNIFE.replace("arms", "other"))
    await until(lambda: _is(lambda: _revision(plane), 2))
    assert (await check(plane, "a knife")).action == policy_pb2.BLOCK


async def test_a_policy_that_is_kept_in_a_file_is_not_changed_by_the_api(
    plane: Plane,
) -> None:
    (plane.folder / "arms.yaml").write_text(KNIFE)
    await until(lambda: _is(lambda: _revision(plane), 1))
    assert "arms.yaml" in await reason(apply(plane, a_policy("bomb")))
    request = policy_service_pb2.DeletePolicyRequest(name="policies/arms")
    assert "arms.yaml" in await reason(plane.policies.DeletePolicy(request))


async def test_an_update_checks_its_etag_and_makes_no_empty_revision(
    plane: Plane,
) -> None:
    first = await apply(plane, a_policy())
    again = await apply(plane, a_policy())
    assert again.revision == first.revision == 1
    changed = a_policy("bomb")
    changed.etag = "stale"
    assert "ConflictError" in await reason(apply(plane, changed))
    changed.etag = first.etag
    assert (await apply(plane, changed)).revision == 2


async def test_a_preview_stores_nothing(plane: Plane) -> None:
    await apply(plane, a_policy(), validate_only=True)
    assert await _revision(plane) == 0


async def test_bad_policies_name_the_field(plane: Plane) -> None:
    unknown = a_policy()
    unknown.models[0] = "models/nowhere"
    assert "policy.models[0]" in await reason(apply(plane, unknown))
    wordless = a_policy()
    wordless.concepts[0].phrases.pop()
    assert "policy.concepts[0].phrases" in await reason(apply(plane, wordless))
    torn = a_policy()
    torn.concepts[0].retain.append("Knife")
    assert "retain" in await reason(apply(plane, torn))


async def test_a_deleted_policy_keeps_its_history(plane: Plane) -> None:
    await apply(plane, a_policy())
    await apply(plane, a_policy("bomb"))
    request = policy_service_pb2.DeletePolicyRequest(name="policies/arms")
    assert (await plane.policies.DeletePolicy(request)).revision == 3
    answer = await plane.policies.ListPolicyRevisions(
        policy_service_pb2.ListPolicyRevisionsRequest(parent="policies/arms")
    )
    assert [r.deleted for r in answer.policy_revisions] == [True, False, False]
    get = policy_service_pb2.GetPolicyRequest(name="policies/arms")
    assert "NotFoundError policies/arms" in await reason(plane.policies.GetPolicy(get))


async def test_lists_come_in_pages_that_hold_everything_once(plane: Plane) -> None:
    for index in range(5):
        await apply(plane, a_policy(name=f"policies/p{index}"))
    seen, token = [], ""
    while True:
        answer = await plane.policies.ListPolicies(
            policy_service_pb2.ListPoliciesRequest(page_size=2, page_token=token)
        )
        seen += [policy.name for policy in answer.policies]
        token = answer.next_page_token
        if not token:
            break
    assert seen == [f"policies/p{index}" for index in range(5)]
    for bad in ("?", "eyJ9", "MTI"):
        request = policy_service_pb2.ListPoliciesRequest(page_token=bad)
        assert "page_token" in await reason(plane.policies.ListPolicies(request))


async def test_a_run_is_published_as_one_generation(plane: Plane) -> None:
    await apply(plane, a_policy())
    run = await until(lambda: _claim_with(plane, 1))
    done = await finish(plane.workers, run)
    assert done.state == State.SUCCEEDED
    (generation,) = await until(lambda: generations(plane))
    assert generation.concepts == ["policies/arms/concepts/knife"]
    assert generation.patch == done.patch
    # Handing in once more is harmless.
    again = await finish(plane.workers, run)
    assert again.patch == done.patch
    assert len(await generations(plane)) == 1


async def test_when_a_generation_is_active_its_prompts_are_flagged(
    plane: Plane,
) -> None:
    await apply(plane, a_policy())
    await finish(plane.workers, await until(lambda: _claim_with(plane, 1)))
    await until(lambda: generations(plane))
    assert (await check(plane, "a knife", generation=1)).action == policy_pb2.FLAG
    assert (await check(plane, "a knife")).action == policy_pb2.BLOCK
    await apply(plane, a_policy("bomb"))
    # Generation 1 has forgotten the knife and not the bomb.
    assert (await check(plane, "a bomb", generation=1)).action == policy_pb2.BLOCK


async def test_a_patch_that_its_gate_refused_is_not_published(plane: Plane) -> None:
    run = await claim(plane.workers)
    refused = worker_service_pb2.FinishUnlearningRunRequest(
        unlearning_run=run.name, attempt=run.attempt, patch_manifest=_address(b"x")
    )
    answer = await reason(plane.workers.FinishUnlearningRun(refused))
    assert "gate_results" in answer
    assert not await generations(plane)


async def test_a_patch_for_another_plan_is_refused(plane: Plane) -> None:
    run = await claim(plane.workers)
    answer = await reason(finish(plane.workers, run, plan_digest="d" * 64))
    assert "another plan" in answer


async def test_a_patch_whose_tensors_were_not_written_is_refused(plane: Plane) -> None:
    run = await claim(plane.workers)
    missing = Digest.of(b"never written")
    answer = await reason(finish(plane.workers, run, tensor_file=missing))
    assert "was not written" in answer


async def test_a_worker_that_lost_its_run_is_turned_away(plane: Plane) -> None:
    first = await claim(plane.workers, worker="workers/a")
    # The lease of one second runs out; nobody renews.
    second = await claim(plane.workers, worker="workers/b")
    assert (second.name, second.attempt) == (first.name, 2)
    renewal = worker_service_pb2.RenewLeaseRequest(
        unlearning_run=first.name, attempt=first.attempt
    )
    assert "ConflictError" in await reason(plane.workers.RenewLease(renewal))
    assert "ConflictError" in await reason(finish(plane.workers, first))
    await finish(plane.workers, second)
    await until(lambda: generations(plane))
    assert len(await generations(plane)) == 1


async def test_a_worker_that_asks_again_has_lost_its_run(plane: Plane) -> None:
    first = await claim(plane.workers)
    second = await claim(plane.workers, wait=2)
    assert (second.name, second.attempt) == (first.name, 2)


async def test_a_run_is_cancelled_by_way_of_its_lease_and_retried(plane: Plane) -> None:
    run = await claim(plane.workers)
    cancel = unlearning_service_pb2.CancelUnlearningRunRequest(name=run.name)
    answer = await plane.runs.CancelUnlearningRun(cancel)
    assert answer.state == State.CANCELLING
    renewal = worker_service_pb2.RenewLeaseRequest(
        unlearning_run=run.name, attempt=run.attempt
    )
    assert (await plane.workers.RenewLease(renewal)).cancel_requested
    ended = await plane.workers.FinishUnlearningRun(
        worker_service_pb2.FinishUnlearningRunRequest(
            unlearning_run=run.name, attempt=run.attempt, cancelled=True
        )
    )
    assert ended.state == State.CANCELLED
    assert "CANCELLED" in await reason(plane.runs.CancelUnlearningRun(cancel))
    retry = unlearning_service_pb2.RetryUnlearningRunRequest(name=run.name)
    queued = await plane.runs.RetryUnlearningRun(retry)
    assert queued.state == State.QUEUED
    assert "RunStateError" in await reason(plane.runs.RetryUnlearningRun(retry))


async def test_watching_shows_a_run_to_its_end(plane: Plane) -> None:
    run = await claim(plane.workers)
    seen = []

    async def watch() -> None:
        request = unlearning_service_pb2.WatchUnlearningRunRequest(name=run.name)
        async for state in plane.runs.WatchUnlearningRun(request):
            step = (State.Name(state.state), state.progress.done_steps)
            seen.append(step)

    watching = asyncio.create_task(watch())
    await until(lambda: _done(len(seen) == 1))
    await plane.workers.RenewLease(
        worker_service_pb2.RenewLeaseRequest(
            unlearning_run=run.name,
            attempt=run.attempt,
            progress=unlearning_run_pb2.RunProgress(phase="erase", done_steps=7),
        )
    )
    await until(lambda: _done(("RUNNING", 7) in seen))
    await finish(plane.workers, run)
    await asyncio.wait_for(watching, 10)
    assert seen[-1][0] == "SUCCEEDED"


async def test_bytes_that_do_not_match_their_digest_are_refused(plane: Plane) -> None:
    wrong = Digest(Digest.of(b"other").sha256, 5)
    assert "InvalidArgumentError" in await reason(
        write(plane.workers, b"bytes", digest=wrong)
    )
    # A sender that stops early is refused as well, and leaves nothing behind.
    long = Digest.of(b"x" * 5000)
    assert "InvalidArgumentError" in await reason(
        write(plane.workers, b"x" * 4000, digest=long)
    )
    answer = await reason(_read(plane, long))
    assert "NotFoundError" in answer


async def test_a_blob_is_read_from_any_offset(plane: Plane) -> None:
    content = bytes(range(256)) * 9000
    digest = await write(plane.workers, content)
    assert await _read(plane, digest) == content
    assert await _read(plane, digest, offset=len(content) - 3) == content[-3:]
    assert "read_offset" in await reason(_read(plane, digest, offset=-1))
    assert "InvalidArgumentError" in await reason(
        _read(plane, digest, offset=len(content) + 1)
    )


Request = weight_delivery_service_pb2.SubscribeDirectivesRequest
Phase = weight_delivery_service_pb2.Acknowledgement.Phase


class Node:
    """The server's end of one stream, said by hand."""

    def __init__(self, plane: Plane) -> None:
        self._say: asyncio.Queue[Request | None] = asyncio.Queue()
        self.stream = plane.delivery.SubscribeDirectives(self._messages())

    async def _messages(self) -> AsyncIterator[Request]:
        while (message := await self._say.get()) is not None:
            yield message

    def hello(self, active: int = 0) -> None:
        self._say.put_nowait(
            Request(
                hello=weight_delivery_service_pb2.Hello(
                    inference_server="inferenceServers/a",
                    model="models/petal",
                    base_digest="b" * 64,
                    active_generation=active,
                )
            )
        )

    def acknowledge(self, nonce: str, generation: int, phase: int) -> None:
        self._say.put_nowait(
            Request(
                acknowledgement=weight_delivery_service_pb2.Acknowledgement(
                    nonce=nonce, generation=generation, phase=phase, tensor_root="c"
                )
            )
        )

    def refuse(self, nonce: str, generation: int) -> None:
        self._say.put_nowait(
            Request(
                refusal=weight_delivery_service_pb2.Refusal(
                    nonce=nonce,
                    generation=generation,
                    reason=weight_delivery_service_pb2.Refusal.NOT_FINITE,
                )
            )
        )

    async def hear(self) -> Any:  # noqa: ANN401 - a message
        return await asyncio.wait_for(anext(aiter(self.stream)), 10)

    def leave(self) -> None:
        self.stream.cancel()


async def fleet_state(plane: Plane) -> str:
    answer = await plane.fleet.ListInferenceServers(
        fleet_service_pb2.ListInferenceServersRequest()
    )
    if not answer.inference_servers:
        return ""
    state = answer.inference_servers[0].state
    return fleet_service_pb2.InferenceServer.State.Name(state)


async def test_a_server_is_offered_and_activates_what_is_published(
    plane: Plane,
) -> None:
    node = Node(plane)
    node.hello()
    await until(lambda: _is(lambda: fleet_state(plane), "NOT_READY"))
    await finish(plane.workers, await claim(plane.workers))
    offer = (await node.hear()).offer
    manifest = GenerationManifest.from_bytes(offer.envelope.payload)
    assert (manifest.generation, offer.generation) == (1, 1)
    node.acknowledge(offer.nonce, 1, Phase.STAGED)
    activate = (await node.hear()).activate
    assert activate.generation == 1
    node.acknowledge(activate.nonce, 1, Phase.ACTIVE)
    await until(lambda: _is(lambda: fleet_state(plane), "SYNCED"))
    node.leave()


async def test_a_refused_generation_shows_in_the_fleet_and_the_next_is_offered(
    plane: Plane,
) -> None:
    await finish(plane.workers, await claim(plane.workers))
    await until(lambda: generations(plane))
    node = Node(plane)
    node.hello(active=1)
    await apply(plane, a_policy())
    await finish(plane.workers, await until(lambda: _claim_with(plane, 1)))
    offer = (await node.hear()).offer
    node.refuse(offer.nonce, 2)
    await until(lambda: _is(lambda: fleet_state(plane), "NACKED_BUT_CACHED"))
    await apply(plane, a_policy("bomb"))
    await finish(plane.workers, await until(lambda: _claim_with(plane, 1)))
    assert (await node.hear()).offer.generation == 3
    node.leave()


async def test_an_answer_to_nothing_ends_the_stream(plane: Plane) -> None:
    node = Node(plane)
    node.hello()
    node.acknowledge("invented", 1, Phase.ACTIVE)
    assert "nonce" in await reason(node.hear())


async def test_a_stream_begins_with_hello_from_a_known_model(plane: Plane) -> None:
    node = Node(plane)
    node.acknowledge("", 1, Phase.RETIRED)
    assert "hello" in await reason(node.hear())


async def test_manifests_are_offered_as_the_bytes_that_were_stored(
    plane: Plane,
) -> None:
    run = await claim(plane.workers)
    await finish(plane.workers, run)
    (generation,) = await until(lambda: generations(plane))
    stored = await _read(
        plane, Digest(generation.manifest.sha256, generation.manifest.size_bytes)
    )
    node = Node(plane)
    node.hello()
    assert (await node.hear()).offer.envelope.payload == stored
    assert GenerationManifest.from_bytes(stored).patch == a_manifest(run)
    node.leave()


async def _read(plane: Plane, digest: Digest, offset: int = 0) -> bytes:
    request = weight_delivery_service_pb2.ReadBlobRequest(
        digest=digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes),
        read_offset=offset,
    )
    return b"".join([c.data async for c in plane.delivery.ReadBlob(request)])


async def _claim_with(plane: Plane, concepts: int) -> Any:  # noqa: ANN401 - a message
    """A run over so many concepts, once one can be claimed."""
    run = await claim(plane.workers, wait=0.2)
    return run if run is not None and len(run.plan.concepts) == concepts else None


async def _revision(plane: Plane) -> int:
    answer = await plane.policies.ListPolicies(policy_service_pb2.ListPoliciesRequest())
    return answer.revision


async def _is(read: Callable[[], Awaitable[object]], wanted: object) -> bool:
    return await read() == wanted


async def _done(condition: object) -> object:
    return condition


def _address(content: bytes) -> digest_pb2.Digest:
    digest = Digest.of(content)
    return digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)


async def test_corrupt_bytes_are_never_handed_out(plane: Plane) -> None:
    content = b"weights" * 1000
    digest = await write(plane.workers, content)
    (stored,) = [
        path
        for path in (plane.folder.parent / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == content
    ]
    stored.write_bytes(content[:-1] + b"!")
    assert "IntegrityError" in await reason(_read(plane, digest))
