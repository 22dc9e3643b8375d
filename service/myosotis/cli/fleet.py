"""`myosotis fleet` and `myosotis patch …`: what is served where."""

from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from myosotis.cli.policies import print_json
from myosotis.cli.remote import DEADLINE_SECONDS, control_plane, every
from myosotis.v1 import (
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    patch_service_pb2,
    patch_service_pb2_grpc,
    weight_delivery_service_pb2,
)


def fleet(address: str, *, as_json: bool, console: Console) -> None:
    """Print every server: generation, state, last refusal."""
    with control_plane(address) as channel:
        stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
        rows = list(
            every(
                stub.ListInferenceServers,
                fleet_service_pb2.ListInferenceServersRequest(),
                lambda answer: answer.inference_servers,
            )
        )
    if as_json:
        print_json([json_format.MessageToDict(row) for row in rows], console)
        return
    table = Table("server", "model", "state", "serves", "should", "refusal", "address")
    for row in rows:
        refusal = ""
        if row.HasField("last_refusal"):
            reason = weight_delivery_service_pb2.Refusal.Reason.Name(
                row.last_refusal.reason
            )
            refusal = f"{row.last_refusal.generation}: {reason}"
        table.add_row(
            row.name,
            row.model,
            fleet_service_pb2.InferenceServer.State.Name(row.state),
            str(row.active_generation or "nothing"),
            str(row.desired_generation or "nothing"),
            refusal,
            row.address,
        )
    console.print(table)


def list_patches(address: str, model: str, *, as_json: bool, console: Console) -> None:
    """Print the generations of a model, newest first, with their patches."""
    with control_plane(address) as channel:
        stub = patch_service_pb2_grpc.PatchServiceStub(channel)
        rows = list(
            every(
                stub.ListGenerations,
                patch_service_pb2.ListGenerationsRequest(parent=model),
                lambda answer: answer.generations,
            )
        )
    if as_json:
        print_json([json_format.MessageToDict(row) for row in rows], console)
        return
    table = Table("generation", "revision", "concepts", "manifest", "patch")
    for row in rows:
        table.add_row(
            row.name,
            str(row.policy_revision),
            ", ".join(name.rsplit("/", 1)[-1] for name in row.concepts) or "none",
            row.manifest.sha256[:12],
            row.patch,
        )
    console.print(table)


def show_patch(address: str, name: str, *, console: Console) -> None:
    """Print one patch as JSON."""
    with control_plane(address) as channel:
        stub = patch_service_pb2_grpc.PatchServiceStub(channel)
        patch = stub.GetPatch(
            patch_service_pb2.GetPatchRequest(name=name), timeout=DEADLINE_SECONDS
        )
    print_json(json_format.MessageToDict(patch), console)
