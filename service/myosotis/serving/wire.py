"""Serving's values to protobuf messages and back."""

from dataclasses import dataclass

from myosotis.digests import Digest
from myosotis.errors import PatchRefusedError
from myosotis.patches.manifest import GENERATION_MEDIA_TYPE, GenerationManifest
from myosotis.serving.admission import Holding
from myosotis.serving.orders import Order, Picture, StepMade
from myosotis.unlearning.models import ModelCard
from myosotis.v1 import digest_pb2
from myosotis.v1 import image_generation_service_pb2 as pb_images
from myosotis.v1 import weight_delivery_service_pb2 as pb

_MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Station:
    """What a generation reached on this server.

    Attributes:
        generation: its number.
        tensor_root: digest of the tensors computed here.
        applied_tensor_count: tensors that the patch replaced.
        seconds: how long the step took.
    """

    generation: int
    tensor_root: str = ""
    applied_tensor_count: int = 0
    seconds: float = 0.0


def hello(
    server: str, address: str, holding: Holding, tensor_root: str
) -> pb.SubscribeDirectivesRequest:
    """The first message of a stream; *tensor_root* is that of the live tensors."""
    return pb.SubscribeDirectivesRequest(
        hello=pb.Hello(
            inference_server=server,
            model=holding.model,
            base_digest=holding.base_digest,
            active_generation=holding.active_generation,
            tensor_root=tensor_root,
            staged_generation=holding.staged_generation,
            address=address,
        )
    )


def heartbeat() -> pb.SubscribeDirectivesRequest:
    """Nothing new here."""
    return pb.SubscribeDirectivesRequest(heartbeat=pb.Heartbeat())


def staged(nonce: str, station: Station) -> pb.SubscribeDirectivesRequest:
    """An offer was verified and built."""
    return _acknowledgement(nonce, station, pb.Acknowledgement.STAGED)


def active(nonce: str, station: Station) -> pb.SubscribeDirectivesRequest:
    """Every request from now on is served by it."""
    return _acknowledgement(nonce, station, pb.Acknowledgement.ACTIVE)


def retired(station: Station) -> pb.SubscribeDirectivesRequest:
    """The last request that it served has ended."""
    return _acknowledgement("", station, pb.Acknowledgement.RETIRED)


def _acknowledgement(
    nonce: str, station: Station, phase: pb.Acknowledgement.Phase
) -> pb.SubscribeDirectivesRequest:
    return pb.SubscribeDirectivesRequest(
        acknowledgement=pb.Acknowledgement(
            nonce=nonce,
            generation=station.generation,
            phase=phase,
            tensor_root=station.tensor_root,
            applied_tensor_count=station.applied_tensor_count,
            seconds=station.seconds,
        )
    )


def refusal(
    nonce: str, generation: int, error: PatchRefusedError, active_generation: int
) -> pb.SubscribeDirectivesRequest:
    """The refusal of a directive; an unknown reason is a defect, INTERNAL."""
    known = error.refusal in pb.Refusal.Reason.keys()  # noqa: SIM118 - no mapping
    return pb.SubscribeDirectivesRequest(
        refusal=pb.Refusal(
            nonce=nonce,
            generation=generation,
            reason=pb.Refusal.Reason.Value(error.refusal if known else "INTERNAL"),
            detail=" ".join(error.detail.split())[:_MAX_DETAIL],
            active_generation=active_generation,
        )
    )


def manifest(offer: pb.Offer) -> GenerationManifest:
    """The manifest in an offer.

    Raises:
        PatchRefusedError: MALFORMED_MANIFEST.
    """
    if offer.envelope.payload_type != GENERATION_MEDIA_TYPE:
        raise PatchRefusedError(
            "MALFORMED_MANIFEST", f"media type {offer.envelope.payload_type!r}"
        )
    return GenerationManifest.from_bytes(offer.envelope.payload)


def digest(value: Digest) -> digest_pb2.Digest:
    """A content address as a message."""
    return digest_pb2.Digest(sha256=value.sha256, size_bytes=value.size_bytes)


def order(request: pb_images.GenerateImageRequest, card: ModelCard) -> Order:
    """What a request asks for, with the model's defaults.

    Raises:
        InvalidArgumentError: naming the field.
    """
    return Order.with_defaults(
        card,
        prompt=request.prompt,
        seed=request.seed,
        step_count=request.step_count,
        guidance_scale=request.guidance_scale,
        min_generation=request.min_generation,
    )


def response(event: StepMade | Picture) -> pb_images.GenerateImageResponse:
    """What the caller is told of *event*."""
    if isinstance(event, StepMade):
        return pb_images.GenerateImageResponse(
            progress=pb_images.StepProgress(
                done_steps=event.done_steps, total_steps=event.total_steps
            )
        )
    return pb_images.GenerateImageResponse(
        image=pb_images.GeneratedImage(
            png=event.png,
            generation=event.origin.generation,
            patch_digest=event.origin.patch_digest,
            policy_revision=event.origin.policy_revision,
            batch_size=event.origin.batch_size,
            batch_index=event.origin.batch_index,
            seed=event.order.seed,
            step_count=event.order.step_count,
            guidance_scale=event.order.guidance_scale,
            seconds=event.seconds,
        )
    )
