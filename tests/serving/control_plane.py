"""A control plane that says what a test tells it, over the real protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import grpc.aio
from myosotis.digests import Digest
from myosotis.errors import IntegrityError, NotFoundError, UnavailableError
from myosotis.patches.manifest import GENERATION_MEDIA_TYPE, GenerationManifest
from myosotis.transport.blobs import chunked
from myosotis.transport.servers import GrpcServer
from myosotis.v1 import moderation_service_pb2 as moderation
from myosotis.v1 import moderation_service_pb2_grpc as moderation_grpc
from myosotis.v1 import policy_pb2
from myosotis.v1 import weight_delivery_service_pb2 as pb
from myosotis.v1 import weight_delivery_service_pb2_grpc as pb_grpc

from tests.serving.generations import Generation

WAIT_SECONDS = 30.0
BANNED = "forbidden thing"


class FakeControlPlane(
    pb_grpc.WeightDeliveryServiceServicer, moderation_grpc.ModerationServiceServicer
):
    """Holds the streams of servers, and hears what they say.

    Attributes:
        blobs: what ReadBlob finds, by SHA-256.
        corrupt: digests whose blobs count as corrupt.
        break_after: bytes after which the next ReadBlob breaks; then it is None.
        offsets: offset of each ReadBlob.
        heartbeats: how many were heard.
        checked: generation that came with each checked prompt.
        undecided: answer prompt checks without a decision.
        left: set while no server holds a stream.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.corrupt: set[str] = set()
        self.break_after: int | None = None
        self.offsets: list[int] = []
        self.heartbeats = 0
        self.checked: list[int] = []
        self.undecided = False
        self.left = asyncio.Event()
        self._heard: asyncio.Queue[pb.SubscribeDirectivesRequest] = asyncio.Queue()
        self._says: asyncio.Queue[pb.SubscribeDirectivesResponse | None] = (
            asyncio.Queue()
        )
        self._nonces = 0

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, listen: str = "127.0.0.1:0", plane: Self | None = None
    ) -> AsyncIterator[tuple[Self, str]]:
        """The fake and its address, until the block ends; *plane* lives on."""
        plane = plane or cls()
        server = GrpcServer(listen)
        server.add(pb_grpc.add_WeightDeliveryServiceServicer_to_server, plane)
        server.add(moderation_grpc.add_ModerationServiceServicer_to_server, plane)
        await server.start()
        try:
            yield plane, server.address
        finally:
            await server.stop(0)

    async def SubscribeDirectives(
        self,
        request_iterator: AsyncIterator[pb.SubscribeDirectivesRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.SubscribeDirectivesResponse]:
        self.left.clear()
        hearing = asyncio.create_task(self._hear(request_iterator))
        try:
            while (directive := await self._says.get()) is not None:
                yield directive
        finally:
            self.left.set()
            hearing.cancel()
            with suppress(asyncio.CancelledError):
                await hearing

    async def _hear(self, events: AsyncIterator[pb.SubscribeDirectivesRequest]) -> None:
        async for event in events:
            if event.WhichOneof("event") == "heartbeat":
                self.heartbeats += 1
            else:
                self._heard.put_nowait(event)

    async def ReadBlob(
        self,
        request: pb.ReadBlobRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.ReadBlobResponse]:
        self.offsets.append(request.read_offset)
        digest = request.digest.sha256
        if digest in self.corrupt:
            raise IntegrityError(digest)
        if digest not in self.blobs:
            raise NotFoundError(digest)
        sent = 0
        for chunk in chunked(self.blobs[digest][request.read_offset :], 4096):
            if self.break_after is not None and sent >= self.break_after:
                self.break_after = None
                raise UnavailableError("blobs", "pulled the plug")
            yield pb.ReadBlobResponse(data=chunk)
            sent += len(chunk)

    async def CheckPrompts(
        self,
        request: moderation.CheckPromptsRequest,
        context: grpc.aio.ServicerContext,
    ) -> moderation.CheckPromptsResponse:
        self.checked.append(request.generation)
        decisions = [_decision(prompt) for prompt in request.prompts]
        return moderation.CheckPromptsResponse(
            decisions=[] if self.undecided else decisions, policy_revision=7
        )

    def keep(self, generation: Generation) -> GenerationManifest:
        """Let ReadBlob find its tensor file."""
        manifest, content = generation
        if content:
            self.blobs[Digest.of(content).sha256] = content
        return manifest

    def say_offer(
        self, manifest: GenerationManifest, *, number: int | None = None
    ) -> str:
        return self.say_payload(manifest.to_bytes(), number or manifest.generation)

    def say_payload(
        self, payload: bytes, number: int, media_type: str = GENERATION_MEDIA_TYPE
    ) -> str:
        """Offer *payload* as generation *number*; the directive's nonce."""
        nonce = self._nonce()
        envelope = pb.Envelope(payload_type=media_type, payload=payload)
        offer = pb.Offer(nonce=nonce, generation=number, envelope=envelope)
        self._says.put_nowait(pb.SubscribeDirectivesResponse(offer=offer))
        return nonce

    def say_activate(self, number: int) -> str:
        nonce = self._nonce()
        activate = pb.Activate(nonce=nonce, generation=number)
        self.repeat(pb.SubscribeDirectivesResponse(activate=activate))
        return nonce

    def repeat(self, directive: pb.SubscribeDirectivesResponse) -> None:
        self._says.put_nowait(directive)

    def hang_up(self) -> None:
        """End the stream."""
        self._says.put_nowait(None)

    async def hears(self) -> pb.SubscribeDirectivesRequest:
        """The next thing that is said, heartbeats aside."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._heard.get()

    async def hello(self) -> pb.Hello:
        event = await self.hears()
        assert event.WhichOneof("event") == "hello", event
        return event.hello

    async def acknowledged(self) -> pb.Acknowledgement:
        event = await self.hears()
        assert event.WhichOneof("event") == "acknowledgement", event
        return event.acknowledgement

    async def refused(self) -> tuple[str, pb.Refusal]:
        """The name of the reason, and all of the refusal."""
        event = await self.hears()
        assert event.WhichOneof("event") == "refusal", event
        return pb.Refusal.Reason.Name(event.refusal.reason), event.refusal

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing is said for so long, heartbeats aside."""
        await asyncio.sleep(seconds)
        return self._heard.empty()

    async def roll_out(self, generation: Generation) -> None:
        """Offer, activate, hear STAGED and ACTIVE; pass over what retires."""
        manifest = self.keep(generation)
        for nonce, phase in (
            (self.say_offer(manifest), pb.Acknowledgement.STAGED),
            (self.say_activate(manifest.generation), pb.Acknowledgement.ACTIVE),
        ):
            answer = await self.acknowledged()
            while answer.phase == pb.Acknowledgement.RETIRED:
                answer = await self.acknowledged()
            assert (answer.nonce, answer.phase) == (nonce, phase)

    def _nonce(self) -> str:
        self._nonces += 1
        return f"nonce-{self._nonces}"


def _decision(prompt: str) -> moderation.PromptDecision:
    if BANNED not in prompt:
        return moderation.PromptDecision(action=policy_pb2.ALLOW)
    finding = moderation.PromptFinding(
        concept="policies/p/concepts/thing", action=policy_pb2.BLOCK
    )
    return moderation.PromptDecision(action=policy_pb2.BLOCK, findings=[finding])
