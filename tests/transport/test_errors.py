"""Errors travel whole: raised in a servicer, raised again at the client."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from myosotis.errors import (
    AlreadyExistsError,
    BaseWeightsError,
    CapacityError,
    ConflictError,
    IntegrityError,
    InvalidArgumentError,
    MyosotisError,
    NotFoundError,
    PatchRefusedError,
    PolicySyntaxError,
    PreconditionError,
    PromptBlockedError,
    RunStateError,
    UnavailableError,
)
from myosotis.transport.channels import open_channel
from myosotis.transport.errors import RemoteError, from_rpc_error, to_status
from myosotis.transport.servers import GrpcServer
from myosotis.v1 import (
    error_reason_pb2,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    unlearning_service_pb2,
    unlearning_service_pb2_grpc,
)

EVERY_ERROR = [
    InvalidArgumentError("concepts[0].phrases", "empty"),
    PolicySyntaxError("models", "missing", Path("a b.yaml"), 3, 7),
    NotFoundError("policies/a"),
    AlreadyExistsError("policies/a"),
    ConflictError("policies/a"),
    RunStateError("models/a/unlearningRuns/b", "FAILED", "RUNNING"),
    BaseWeightsError("a" * 64, "b" * 64),
    PromptBlockedError("policies/a/concepts/b", 4),
    PatchRefusedError("NOT_FINITE", "unet.x"),
    CapacityError("the queue is full", 1.5),
    IntegrityError("sha256:abc"),
    UnavailableError("blobs", "the disk is full"),
]


class Raising(
    fleet_service_pb2_grpc.FleetServiceServicer,
    unlearning_service_pb2_grpc.UnlearningServiceServicer,
):
    """Raises what it is told."""

    def __init__(self) -> None:
        self.error: Exception = ValueError()

    async def ListInferenceServers(self, request, context):  # noqa: ANN001, ANN201 - gRPC passes them
        raise self.error

    async def WatchUnlearningRun(self, request, context):  # noqa: ANN001, ANN201 - gRPC passes them
        raise self.error
        yield


@pytest.fixture
async def raising() -> AsyncIterator[tuple[Raising, grpc.aio.Channel]]:
    server, servicer = GrpcServer("127.0.0.1:0"), Raising()
    server.add(fleet_service_pb2_grpc.add_FleetServiceServicer_to_server, servicer)
    server.add(
        unlearning_service_pb2_grpc.add_UnlearningServiceServicer_to_server, servicer
    )
    await server.start()
    async with open_channel(server.address) as channel:
        yield servicer, channel
    await server.stop(0)


async def call(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListInferenceServers(fleet_service_pb2.ListInferenceServersRequest())
    return caught.value


async def call_stream(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
    request = unlearning_service_pb2.WatchUnlearningRunRequest(name="x")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.WatchUnlearningRun(request):
            pass
    return caught.value


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda e: type(e).__name__)
async def test_an_error_arrives_as_it_was_raised(
    raising: tuple[Raising, grpc.aio.Channel], error: MyosotisError
) -> None:
    servicer, channel = raising
    servicer.error = error
    for way in (call, call_stream):
        back = from_rpc_error(await way(channel), service="test")
        assert (type(back), vars(back)) == (type(error), vars(error))


async def test_a_defect_tells_an_id_and_nothing_else(
    raising: tuple[Raising, grpc.aio.Channel],
) -> None:
    servicer, channel = raising
    servicer.error = ValueError("the prompt was: secret")
    error = await call(channel)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    back = from_rpc_error(error, service="test")
    assert isinstance(back, RemoteError)
    assert back.reason == "INTERNAL_DEFECT"


async def test_a_wrong_field_is_named_to_clients_of_any_language(
    raising: tuple[Raising, grpc.aio.Channel],
) -> None:
    servicer, channel = raising
    servicer.error = InvalidArgumentError("page_size", "negative")
    status = rpc_status.from_call(await call(channel))
    violations = error_details_pb2.BadRequest()
    assert any(detail.Unpack(violations) for detail in status.details)
    assert violations.field_violations[0].field == "page_size"


async def test_nobody_there_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        back = from_rpc_error(await call(channel), service="control plane")
    assert isinstance(back, UnavailableError)
    assert back.service == "control plane"


def test_every_reason_is_in_the_protos() -> None:
    for error in (*EVERY_ERROR, PreconditionError("no")):
        status: status_pb2.Status = to_status(error)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    server = GrpcServer("127.0.0.1:0")
    with pytest.raises(UnavailableError, match=server.address):
        GrpcServer(server.address)
    await server.stop(0)
