"""`myosotis policy …`: policies, offline or against a control plane."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

import grpc
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from myosotis.cli.remote import DEADLINE_SECONDS, control_plane, every
from myosotis.errors import PolicySyntaxError
from myosotis.policy.files import PolicyFile, read_policy_file, read_policy_folder
from myosotis.policy.wire import policy_content_to_wire
from myosotis.v1 import policy_pb2, policy_service_pb2, policy_service_pb2_grpc

_STORED_FIELDS = ("revision", "create_time", "update_time", "etag", "source_file")


def check(paths: Sequence[Path], *, console: Console) -> None:
    """Check policy files and folders, without a server.

    Raises:
        PolicySyntaxError: the last of the errors; all of them are printed.
    """
    errors: list[PolicySyntaxError] = []
    count = 0
    for path in paths:
        try:
            if path.is_dir():
                folder = read_policy_folder(path)
                errors += folder.errors
                count += len(folder.files)
            else:
                read_policy_file(path)
                count += 1
        except PolicySyntaxError as error:
            errors.append(error)
    for problem in errors[:-1]:
        console.print(
            f"error: {problem}", markup=False, highlight=False, soft_wrap=True
        )
    if errors:
        raise errors[-1]
    console.print(f"{count} policies are well-formed")


def diff(address: str, path: Path, *, console: Console) -> bool:
    """Print how the stored policy would change; whether it would."""
    file = read_policy_file(path)
    with control_plane(address) as channel:
        stub = policy_service_pb2_grpc.PolicyServiceStub(channel)
        stored = _stored(stub, file.policy.name)
    before = _lines(stored) if stored is not None else []
    after = _lines(policy_content_to_wire(file.policy))
    lines = list(difflib.unified_diff(before, after, "stored", path.name, lineterm=""))
    for line in lines:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[0])
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    if not lines:
        console.print("no difference")
    return bool(lines)


def apply(
    address: str, paths: Sequence[Path], *, validate_only: bool, console: Console
) -> None:
    """Store policies from files; all are read before the first is stored."""
    files: list[PolicyFile] = []
    for path in paths:
        if path.is_dir():
            folder = read_policy_folder(path)
            if folder.errors:
                raise folder.errors[0]
            files += folder.files
        else:
            files.append(read_policy_file(path))
    with control_plane(address) as channel:
        stub = policy_service_pb2_grpc.PolicyServiceStub(channel)
        for file in files:
            request = policy_service_pb2.UpdatePolicyRequest(
                policy=policy_content_to_wire(file.policy),
                allow_missing=True,
                validate_only=validate_only,
            )
            stored = stub.UpdatePolicy(request, timeout=DEADLINE_SECONDS)
            done = "would be stored" if validate_only else "is stored"
            console.print(f"{stored.name} {done}, revision {stored.revision}")


def list_policies(address: str, *, as_json: bool, console: Console) -> None:
    """Print every policy."""
    with control_plane(address) as channel:
        stub = policy_service_pb2_grpc.PolicyServiceStub(channel)
        rows = list(
            every(
                stub.ListPolicies,
                policy_service_pb2.ListPoliciesRequest(),
                lambda answer: answer.policies,
            )
        )
    if as_json:
        print_json([json_format.MessageToDict(row) for row in rows], console)
        return
    table = Table("policy", "revision", "enforcement", "models", "concepts", "from")
    for row in rows:
        table.add_row(
            row.name,
            str(row.revision),
            policy_pb2.Policy.Enforcement.Name(row.enforcement),
            ", ".join(row.models),
            ", ".join(concept.id for concept in row.concepts),
            row.source_file or "API",
        )
    console.print(table)


def delete(address: str, name: str, *, console: Console) -> None:
    """Delete a policy."""
    with control_plane(address) as channel:
        stub = policy_service_pb2_grpc.PolicyServiceStub(channel)
        answer = stub.DeletePolicy(
            policy_service_pb2.DeletePolicyRequest(name=name), timeout=DEADLINE_SECONDS
        )
    console.print(f"{name} is deleted, revision {answer.revision}")


def print_json(value: object, console: Console) -> None:
    """Print *value* as JSON that other programs read."""
    console.print(
        json.dumps(value, indent=2, ensure_ascii=False),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _stored(
    stub: policy_service_pb2_grpc.PolicyServiceStub, name: str
) -> policy_pb2.Policy | None:
    try:
        stored: policy_pb2.Policy = stub.GetPolicy(
            policy_service_pb2.GetPolicyRequest(name=name), timeout=DEADLINE_SECONDS
        )
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    for field in _STORED_FIELDS:
        stored.ClearField(field)
    return stored


def _lines(message: policy_pb2.Policy) -> list[str]:
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(fields, indent=2, ensure_ascii=False).splitlines()
