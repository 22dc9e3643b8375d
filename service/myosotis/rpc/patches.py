"""PatchService."""

import asyncio

import grpc.aio

from myosotis import names
from myosotis.rollout.ports import PatchStore
from myosotis.rpc.paging import page
from myosotis.rpc.wire import generation_to_wire, patch_to_wire
from myosotis.v1 import patch_pb2, patch_service_pb2, patch_service_pb2_grpc


class PatchServicer(patch_service_pb2_grpc.PatchServiceServicer):
    """Shows patches and generations."""

    def __init__(self, patches: PatchStore) -> None:
        self._patches = patches

    async def GetPatch(
        self,
        request: patch_service_pb2.GetPatchRequest,
        context: grpc.aio.ServicerContext,
    ) -> patch_pb2.Patch:
        names.parse("patch", request.name)
        return patch_to_wire(await asyncio.to_thread(self._patches.patch, request.name))

    async def ListPatches(
        self,
        request: patch_service_pb2.ListPatchesRequest,
        context: grpc.aio.ServicerContext,
    ) -> patch_service_pb2.ListPatchesResponse:
        names.parse("model", request.parent, field="parent")
        rows, token = await asyncio.to_thread(
            page,
            size=request.page_size,
            token=request.page_token,
            kind=str,
            read=lambda limit, before: self._patches.patches(
                request.parent, limit=limit, before=before
            ),
            key=lambda patch: patch.name,
        )
        return patch_service_pb2.ListPatchesResponse(
            patches=[patch_to_wire(patch) for patch in rows], next_page_token=token
        )

    async def ListGenerations(
        self,
        request: patch_service_pb2.ListGenerationsRequest,
        context: grpc.aio.ServicerContext,
    ) -> patch_service_pb2.ListGenerationsResponse:
        names.parse("model", request.parent, field="parent")
        return await asyncio.to_thread(self._list_generations, request)

    def _list_generations(
        self, request: patch_service_pb2.ListGenerationsRequest
    ) -> patch_service_pb2.ListGenerationsResponse:
        rows, token = page(
            size=request.page_size,
            token=request.page_token,
            kind=int,
            read=lambda limit, before: self._patches.generations(
                request.parent, limit=limit, before=before
            ),
            key=lambda generation: generation.number,
        )
        return patch_service_pb2.ListGenerationsResponse(
            generations=[
                generation_to_wire(
                    row, self._patches.patch(row.patch).manifest.concepts
                )
                for row in rows
            ],
            next_page_token=token,
        )
