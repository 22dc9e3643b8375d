"""Torn requests: each picture is drawn again under its stated generation."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import grpc
import numpy as np
from myosotis.digests import Digest
from myosotis.patches.manifest import GenerationManifest
from myosotis.serving.slot import Snapshot, WeightSlot
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.models import TextToImageModel
from myosotis.v1 import (
    digest_pb2,
    patch_service_pb2,
    patch_service_pb2_grpc,
    weight_delivery_service_pb2,
    weight_delivery_service_pb2_grpc,
)
from numpy.typing import NDArray
from PIL import Image

from deploy.demo.gallery import Served


def fetch_generations(
    channel: grpc.Channel, model: str
) -> dict[int, tuple[GenerationManifest, bytes]]:
    """Every generation of *model* with its tensor file, as servers get them."""
    patches = patch_service_pb2_grpc.PatchServiceStub(channel)
    answer = patches.ListGenerations(
        patch_service_pb2.ListGenerationsRequest(parent=model)
    )
    fetched = {}
    for generation in answer.generations:
        address = generation.manifest
        content = _read(channel, Digest(address.sha256, address.size_bytes))
        manifest = GenerationManifest.from_bytes(content)
        file = manifest.patch.tensor_file
        fetched[manifest.generation] = (
            manifest,
            _read(channel, file) if file is not None else b"",
        )
    return fetched


def torn(
    model: TextToImageModel,
    generations: dict[int, tuple[GenerationManifest, bytes]],
    served: Sequence[Served],
    *,
    done: Callable[[], None],
) -> list[Served]:
    """Those of *served* that are not what their stated generation draws.

    Drawn with as many pictures at once as the server did, and by as many threads as
    this process has: give it those of the server.
    """
    slot = WeightSlot(model.name, model.pipeline.unet)
    snapshots = {
        number: slot.stage(manifest, content)
        for number, (manifest, content) in generations.items()
    }
    different = []
    for snapshot, group in _groups(snapshots, served):
        again = _draw(model, snapshot, group)
        for item, picture in zip(group, again, strict=True):
            if not np.array_equal(pixels(item), picture):
                different.append(item)
            done()
    return different


def pixels(served: Served) -> NDArray[np.uint8]:
    """The picture, uint8 [height, width, 3]."""
    with Image.open(io.BytesIO(served.image.png)) as image:
        return np.asarray(image.convert("RGB"))


def _groups(
    snapshots: dict[int, Snapshot], served: Sequence[Served]
) -> Iterator[tuple[Snapshot, list[Served]]]:
    """Pictures that can be drawn together as they were."""
    alike: dict[tuple[int, int, int, float], list[Served]] = defaultdict(list)
    for item in served:
        image = item.image
        alike[
            image.generation, image.batch_size, image.step_count, image.guidance_scale
        ].append(item)
    for (generation, size, _, _), items in alike.items():
        for start in range(0, len(items), size):
            yield snapshots[generation], items[start : start + size]


def _draw(
    model: TextToImageModel, snapshot: Snapshot, group: list[Served]
) -> NDArray[np.uint8]:
    first = group[0].image
    # A last group that is too small is filled up with its first picture.
    filled = [*group, *[group[0]] * (first.batch_size - len(group))]
    pipeline = type(model.pipeline)(
        **{**model.pipeline.components, "unet": snapshot.unet}
    )
    pictures = draw_batch(
        pipeline,
        [Drawing(item.wish.prompt, item.wish.seed) for item in filled],
        step_count=first.step_count,
        guidance_scale=first.guidance_scale,
    )
    return pictures[: len(group)]


def _read(channel: grpc.Channel, digest: Digest) -> bytes:
    stub = weight_delivery_service_pb2_grpc.WeightDeliveryServiceStub(channel)
    request = weight_delivery_service_pb2.ReadBlobRequest(
        digest=digest_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)
    )
    return b"".join(answer.data for answer in stub.ReadBlob(request))
