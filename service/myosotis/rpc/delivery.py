"""WeightDeliveryService: the conversation with each inference server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import datetime

import grpc.aio
import structlog

from myosotis import names
from myosotis.errors import InvalidArgumentError, NotFoundError
from myosotis.patches.manifest import GENERATION_MEDIA_TYPE
from myosotis.patches.ports import BlobStore
from myosotis.rollout.directives import (
    ActivateGeneration,
    OfferGeneration,
    activated,
    next_directive,
    refused,
    staged,
)
from myosotis.rollout.generations import InferenceServer, ServerRefusal
from myosotis.rollout.ports import PatchStore, ServerStore
from myosotis.rpc.changes import Changes
from myosotis.rpc.wire import digest_from_wire
from myosotis.v1 import (
    weight_delivery_service_pb2 as wire,
)
from myosotis.v1 import (
    weight_delivery_service_pb2_grpc,
)

_log = structlog.get_logger(__name__)

# A desired generation that another process published is noticed after so long.
_LOOK_AGAIN_SECONDS = 2.0


class WeightDeliveryServicer(
    weight_delivery_service_pb2_grpc.WeightDeliveryServiceServicer
):
    """Tells servers what to stage and what to serve, and keeps what they answer."""

    def __init__(  # noqa: PLR0913 - its ports
        self,
        *,
        models: frozenset[str],
        patches: PatchStore,
        servers: ServerStore,
        blobs: BlobStore,
        changes: Changes,
        now: Callable[[], datetime],
    ) -> None:
        self._models = models
        self._patches = patches
        self._servers = servers
        self._blobs = blobs
        self._changes = changes
        self._now = now

    async def SubscribeDirectives(
        self,
        request_iterator: AsyncIterator[wire.SubscribeDirectivesRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[wire.SubscribeDirectivesResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("event") != "hello":
            raise InvalidArgumentError("hello", "missing in the first message")
        conversation = _Conversation(self._greeted(first.hello), now=self._now)
        await asyncio.to_thread(self._servers.put, conversation.server)
        _log.info("server subscribed", server=conversation.server.name)
        listening = asyncio.create_task(self._listen(conversation, request_iterator))
        try:
            while not listening.done():
                upcoming = self._changes.upcoming()
                directive = await asyncio.to_thread(self._directive, conversation)
                if directive is not None:
                    yield directive
                await _either(
                    upcoming, conversation.answered(), listening, _LOOK_AGAIN_SECONDS
                )
            await listening
        finally:
            listening.cancel()
            _log.info("server left", server=conversation.server.name)

    async def ReadBlob(
        self,
        request: wire.ReadBlobRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[wire.ReadBlobResponse]:
        digest = digest_from_wire(request.digest, field="digest")
        if request.read_offset < 0:
            raise InvalidArgumentError("read_offset", "negative")
        chunks = await asyncio.to_thread(
            self._blobs.open, digest, offset=request.read_offset
        )
        while (data := await asyncio.to_thread(_next_chunk, chunks)) is not None:
            yield wire.ReadBlobResponse(data=data)

    def _greeted(self, hello: wire.Hello) -> InferenceServer:
        names.parse("inference server", hello.inference_server, field="hello.name")
        names.parse("model", hello.model, field="hello.model")
        if hello.model not in self._models:
            raise NotFoundError(hello.model)
        return InferenceServer(
            name=hello.inference_server,
            model=hello.model,
            base_digest=hello.base_digest,
            heartbeat_time=self._now(),
            active_generation=hello.active_generation,
            staged_generation=hello.staged_generation,
            tensor_root=hello.tensor_root,
            address=hello.address,
        )

    async def _listen(
        self,
        conversation: "_Conversation",
        events: AsyncIterator[wire.SubscribeDirectivesRequest],
    ) -> None:
        async for event in events:
            conversation.hear(event)
            await asyncio.to_thread(self._servers.put, conversation.server)

    def _directive(
        self, conversation: "_Conversation"
    ) -> wire.SubscribeDirectivesResponse | None:
        if conversation.nonce:
            return None  # one directive at a time
        server = conversation.server
        current = self._patches.current(server.model)
        step = next_directive(server, current.number if current is not None else 0)
        match step:
            case OfferGeneration(generation):
                digest = self._patches.generation(
                    server.model, generation
                ).manifest_digest
                envelope = wire.Envelope(
                    payload_type=GENERATION_MEDIA_TYPE,
                    payload=b"".join(self._blobs.open(digest)),
                )
                return wire.SubscribeDirectivesResponse(
                    offer=wire.Offer(
                        nonce=conversation.ask(generation),
                        generation=generation,
                        envelope=envelope,
                    )
                )
            case ActivateGeneration(generation):
                return wire.SubscribeDirectivesResponse(
                    activate=wire.Activate(
                        nonce=conversation.ask(generation), generation=generation
                    )
                )
            case None:
                return None


class _Conversation:
    """What one stream has said so far. Lives on the event loop."""

    def __init__(self, server: InferenceServer, *, now: Callable[[], datetime]) -> None:
        self.server = server
        self.nonce = ""
        self._generation = 0
        self._now = now
        self._answered = asyncio.Event()

    def ask(self, generation: int) -> str:
        """The nonce of the next directive."""
        self._generation = generation
        self._answered.clear()
        self.nonce = uuid.uuid4().hex
        return self.nonce

    def answered(self) -> asyncio.Event:
        """Set while no directive is under way."""
        return self._answered

    def hear(self, event: wire.SubscribeDirectivesRequest) -> None:
        """Take in what the server says.

        Raises:
            InvalidArgumentError: an answer to nothing that was asked on this stream.
        """
        now = self._now()
        match event.WhichOneof("event"):
            case "heartbeat":
                self.server = replace(self.server, heartbeat_time=now)
            case "acknowledgement":
                self._acknowledged(event.acknowledgement, now)
            case "refusal":
                self._settle(event.refusal.nonce, event.refusal.generation)
                refusal = ServerRefusal(
                    generation=event.refusal.generation,
                    reason=wire.Refusal.Reason.Name(event.refusal.reason),
                    detail=event.refusal.detail[:500],
                )
                self.server = refused(self.server, refusal, now=now)
                _log.warning(
                    "generation refused",
                    server=self.server.name,
                    generation=refusal.generation,
                    reason=refusal.reason,
                )
            case _:
                raise InvalidArgumentError("event", "not expected here")

    def _acknowledged(self, answer: wire.Acknowledgement, now: datetime) -> None:
        phase = wire.Acknowledgement.Phase
        match answer.phase:
            case phase.STAGED:
                self._settle(answer.nonce, answer.generation)
                self.server = staged(self.server, answer.generation, now=now)
            case phase.ACTIVE:
                self._settle(answer.nonce, answer.generation)
                self.server = activated(
                    self.server, answer.generation, answer.tensor_root, now=now
                )
            case phase.RETIRED:
                self.server = replace(self.server, heartbeat_time=now)
            case _:
                raise InvalidArgumentError("acknowledgement.phase", "not known")

    def _settle(self, nonce: str, generation: int) -> None:
        if not nonce or nonce != self.nonce or generation != self._generation:
            raise InvalidArgumentError("nonce", "answers no directive of this stream")
        self.nonce = ""
        self._answered.set()


async def _either(
    upcoming: asyncio.Event,
    answered: asyncio.Event,
    listening: asyncio.Task[None],
    seconds: float,
) -> None:
    """Wait until something may have changed for this server."""
    waits = [asyncio.ensure_future(upcoming.wait())]
    if not answered.is_set():
        waits.append(asyncio.ensure_future(answered.wait()))
    try:
        await asyncio.wait(
            [*waits, listening],
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        for wait in waits:
            wait.cancel()


def _next_chunk(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)
