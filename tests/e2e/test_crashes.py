"""Real processes, killed in the middle of a run, and started again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from myosotis.transport.channels import open_channel
from myosotis.v1 import (
    fleet_service_pb2,
    image_generation_service_pb2,
    image_generation_service_pb2_grpc,
    unlearning_run_pb2,
    unlearning_service_pb2,
)

from deploy.demo.processes import service
from tests.rpc.conftest import Plane, stubs
from tests.rpc.test_control_plane import a_policy, apply, generations, until

State = unlearning_run_pb2.UnlearningRun.State

# Loading Petal and proving one ban takes half a minute of a busy core.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE = 240


def serving(folder: Path, port: str = "0") -> Any:  # noqa: ANN401 - a context
    return service(
        "serve",
        f"--listen=127.0.0.1:{port}",
        f"--database=sqlite:///{folder}/state.db",
        f"--blobs={folder}/blobs",
        "--lease-seconds=3",
        log=folder / "serve.log",
    )


def working(folder: Path, address: str) -> Any:  # noqa: ANN401 - a context
    return service(
        "work",
        f"--server={address}",
        "--threads=1",
        "--probes-per-concept=8",
        "--retained-probes=8",
        log=folder / "work.log",
        listens=False,
    )


@asynccontextmanager
async def plane_at(address: str, folder: Path) -> AsyncIterator[Plane]:
    async with open_channel(address, retry=True) as channel:
        yield stubs(address, channel, folder)


async def run_with(plane: Plane, concepts: int) -> Any:  # noqa: ANN401 - a message
    answer = await plane.runs.ListUnlearningRuns(
        unlearning_service_pb2.ListUnlearningRunsRequest(parent="models/petal")
    )
    for run in answer.unlearning_runs:
        if len(run.plan.concepts) == concepts:
            return run
    return None


async def under_way(plane: Plane) -> Any:  # noqa: ANN401 - a message
    """The run of the ban, once its worker has reported a step."""

    async def stepped() -> Any:  # noqa: ANN401 - a message
        run = await run_with(plane, 1)
        return run if run and run.progress.done_steps else None

    return await until(stepped, PATIENCE)


async def ended(plane: Plane) -> Any:  # noqa: ANN401 - a message
    async def over() -> Any:  # noqa: ANN401 - a message
        run = await run_with(plane, 1)
        return run if run and run.state in (State.SUCCEEDED, State.FAILED) else None

    run = await until(over, PATIENCE)
    assert run.state == State.SUCCEEDED, run.failure
    return run


async def published(plane: Plane) -> list[int]:
    """How many concepts each generation lacks, the oldest first."""
    await until(lambda: _second(plane), PATIENCE)
    # Whatever else would be published has a moment to appear.
    await asyncio.sleep(2)
    return [len(g.concepts) for g in reversed(await generations(plane))]


async def _second(plane: Plane) -> bool:
    return len(await generations(plane)) >= 2


async def test_a_worker_killed_in_a_run_does_it_again_and_publishes_once(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (_, address), plane_at(address, tmp_path) as plane:
        async with working(tmp_path, address) as (worker, _):
            await until(lambda: generations(plane), PATIENCE)
            await apply(plane, a_policy("bomb"))
            await under_way(plane)
            worker.kill()
            await worker.wait()
        async with working(tmp_path, address):
            run = await ended(plane)
        assert run.attempt == 2
        assert await published(plane) == [0, 1]


async def test_a_control_plane_killed_in_a_run_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as (killed, address), working(tmp_path, address):
        async with plane_at(address, tmp_path) as plane:
            await until(lambda: generations(plane), PATIENCE)
            await apply(plane, a_policy("bomb"))
            await under_way(plane)
        killed.kill()
        await killed.wait()
        port = address.rsplit(":", 1)[1]
        async with (
            serving(tmp_path, port),
            plane_at(address, tmp_path) as plane,
        ):
            await ended(plane)
            assert await published(plane) == [0, 1]


async def test_an_inference_server_killed_and_started_serves_only_when_synced(
    tmp_path: Path,
) -> None:
    def inferring(address: str) -> Any:  # noqa: ANN401 - a context
        return service(
            "infer",
            f"--server={address}",
            "--listen=127.0.0.1:0",
            "--threads=1",
            log=tmp_path / "infer.log",
        )

    async with serving(tmp_path) as (_, address), plane_at(address, tmp_path) as plane:
        async with inferring(address) as (server, serving_at):
            # Nothing is published, so nothing is served: never the base by itself.
            assert await draw(serving_at) is grpc.StatusCode.UNAVAILABLE
            async with working(tmp_path, address):
                await until(lambda: _synced(plane), PATIENCE)
            assert await draw(serving_at) is grpc.StatusCode.OK
            server.kill()
            await server.wait()
        async with inferring(address) as (_, serving_at):
            await until(lambda: _drawn(serving_at), PATIENCE)


async def _synced(plane: Plane) -> bool:
    answer = await plane.fleet.ListInferenceServers(
        fleet_service_pb2.ListInferenceServersRequest()
    )
    synced = fleet_service_pb2.InferenceServer.SYNCED
    return any(server.state == synced for server in answer.inference_servers)


async def _drawn(address: str) -> bool:
    return await draw(address) is grpc.StatusCode.OK


async def draw(address: str) -> grpc.StatusCode:
    """Ask for a picture; how that ended."""
    request = image_generation_service_pb2.GenerateImageRequest(
        prompt="a dog", step_count=2
    )
    async with open_channel(address) as channel:
        stub = image_generation_service_pb2_grpc.ImageGenerationServiceStub(channel)
        try:
            answers = [answer async for answer in stub.GenerateImage(request)]
        except grpc.aio.AioRpcError as error:
            return error.code()
    assert answers[-1].image.generation == 1
    return grpc.StatusCode.OK
