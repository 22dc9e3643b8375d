"""FleetService."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import grpc.aio

from myosotis.rollout.ports import PatchStore, ServerStore
from myosotis.rpc.paging import page
from myosotis.rpc.wire import server_to_wire
from myosotis.v1 import fleet_service_pb2, fleet_service_pb2_grpc


class FleetServicer(fleet_service_pb2_grpc.FleetServiceServicer):
    """Shows how every inference server stands to what it should serve."""

    def __init__(
        self,
        *,
        servers: ServerStore,
        patches: PatchStore,
        now: Callable[[], datetime],
        stale: timedelta,
    ) -> None:
        self._servers = servers
        self._patches = patches
        self._now = now
        self._stale = stale

    async def ListInferenceServers(
        self,
        request: fleet_service_pb2.ListInferenceServersRequest,
        context: grpc.aio.ServicerContext,
    ) -> fleet_service_pb2.ListInferenceServersResponse:
        return await asyncio.to_thread(self._list, request)

    def _list(
        self, request: fleet_service_pb2.ListInferenceServersRequest
    ) -> fleet_service_pb2.ListInferenceServersResponse:
        rows, token = page(
            size=request.page_size,
            token=request.page_token,
            kind=str,
            read=lambda limit, after: self._servers.page(limit=limit, after=after),
            key=lambda server: server.name,
        )
        now = self._now()
        current = {row.model: self._patches.current(row.model) for row in rows}
        desired = {m: g.number if g is not None else 0 for m, g in current.items()}
        return fleet_service_pb2.ListInferenceServersResponse(
            inference_servers=[
                server_to_wire(
                    row,
                    row.state(desired[row.model], now=now, stale=self._stale),
                    desired[row.model],
                )
                for row in rows
            ],
            next_page_token=token,
        )
