"""A control plane built by the root that production uses, on a free port."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from myosotis.cli.serve import ControlPlaneSettings, control_plane
from myosotis.transport.channels import open_channel
from myosotis.v1 import (
    fleet_service_pb2_grpc,
    moderation_service_pb2_grpc,
    patch_service_pb2_grpc,
    policy_service_pb2_grpc,
    unlearning_service_pb2_grpc,
    weight_delivery_service_pb2_grpc,
    worker_service_pb2_grpc,
)


@dataclass
class Plane:
    """The stubs of a control plane, its address, and its policy folder."""

    address: str
    folder: Path
    policies: Any
    runs: Any
    workers: Any
    patches: Any
    delivery: Any
    fleet: Any
    moderation: Any


def stubs(address: str, channel: grpc.aio.Channel, folder: Path) -> Plane:
    return Plane(
        address,
        folder,
        policy_service_pb2_grpc.PolicyServiceStub(channel),
        unlearning_service_pb2_grpc.UnlearningServiceStub(channel),
        worker_service_pb2_grpc.WorkerServiceStub(channel),
        patch_service_pb2_grpc.PatchServiceStub(channel),
        weight_delivery_service_pb2_grpc.WeightDeliveryServiceStub(channel),
        fleet_service_pb2_grpc.FleetServiceStub(channel),
        moderation_service_pb2_grpc.ModerationServiceStub(channel),
    )


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    folder = tmp_path / "policies"
    folder.mkdir()
    settings = ControlPlaneSettings(
        listen="127.0.0.1:0",
        database=f"sqlite:///{tmp_path}/state.db",
        blobs=tmp_path / "blobs",
        policies=folder,
        models=("models/petal", "models/other"),
        lease=timedelta(seconds=1),
        settle=timedelta(seconds=0.1),
    )
    async with (
        control_plane(settings) as (address, _),
        open_channel(address) as channel,
    ):
        yield stubs(address, channel, folder)
