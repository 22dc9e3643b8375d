"""`myosotis run …`: unlearning runs."""

from google.protobuf import json_format
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from myosotis.cli.policies import print_json
from myosotis.cli.remote import DEADLINE_SECONDS, control_plane, every
from myosotis.errors import PreconditionError
from myosotis.v1 import (
    patch_pb2,
    unlearning_run_pb2,
    unlearning_service_pb2,
    unlearning_service_pb2_grpc,
)

Run = unlearning_run_pb2.UnlearningRun


def list_runs(address: str, parent: str, *, as_json: bool, console: Console) -> None:
    """Print runs, newest first."""
    with control_plane(address) as channel:
        stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
        rows = list(
            every(
                stub.ListUnlearningRuns,
                unlearning_service_pb2.ListUnlearningRunsRequest(parent=parent),
                lambda answer: answer.unlearning_runs,
            )
        )
    if as_json:
        print_json([json_format.MessageToDict(row) for row in rows], console)
        return
    table = Table(
        "run", "state", "concepts", "revision", "attempt", "seconds", "result"
    )
    for row in rows:
        table.add_row(
            row.name,
            Run.State.Name(row.state),
            str(len(row.plan.concepts)),
            str(row.policy_revision),
            str(row.attempt),
            _seconds(row),
            row.failure or row.patch,
        )
    console.print(table)


def show(address: str, name: str, *, as_json: bool, console: Console) -> None:
    """Print one run with its measurements and gate results."""
    with control_plane(address) as channel:
        stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
        run = stub.GetUnlearningRun(
            unlearning_service_pb2.GetUnlearningRunRequest(name=name),
            timeout=DEADLINE_SECONDS,
        )
    if as_json:
        print_json(json_format.MessageToDict(run), console)
    else:
        _print(run, console)


def watch(address: str, name: str, *, console: Console) -> None:
    """Follow a run to its end.

    Raises:
        PreconditionError: it ended without a patch.
    """
    run = Run()
    with control_plane(address) as channel:
        stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
        stream = stub.WatchUnlearningRun(
            unlearning_service_pb2.WatchUnlearningRunRequest(name=name)
        )
        if console.is_terminal:
            with Live(console=console, transient=True) as live:
                for run in stream:
                    live.update(Text(_line(run)))
        else:
            said = ""
            for run in stream:
                if (line := _line(run)) != said:
                    console.print(line, markup=False, highlight=False)
                    said = line
    _print(run, console)
    if run.state != Run.State.SUCCEEDED:
        raise PreconditionError(f"{name} ended {Run.State.Name(run.state)}")


def cancel(address: str, name: str, *, console: Console) -> None:
    """Cancel a run."""
    with control_plane(address) as channel:
        stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
        run = stub.CancelUnlearningRun(
            unlearning_service_pb2.CancelUnlearningRunRequest(name=name),
            timeout=DEADLINE_SECONDS,
        )
    console.print(f"{run.name} is {Run.State.Name(run.state)}")


def retry(address: str, name: str, *, console: Console) -> None:
    """Queue a new run with the plan of one that failed or was cancelled."""
    with control_plane(address) as channel:
        stub = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)
        run = stub.RetryUnlearningRun(
            unlearning_service_pb2.RetryUnlearningRunRequest(name=name),
            timeout=DEADLINE_SECONDS,
        )
    console.print(f"{run.name} is {Run.State.Name(run.state)}")


def _line(run: unlearning_run_pb2.UnlearningRun) -> str:
    steps = run.progress
    total = f" of {steps.total_steps}" if steps.total_steps else ""
    where = f" {steps.phase} {steps.done_steps}{total}" if steps.phase else ""
    return f"{Run.State.Name(run.state)}{where}"


def _seconds(run: unlearning_run_pb2.UnlearningRun) -> str:
    if not run.HasField("start_time") or not run.HasField("end_time"):
        return ""
    nanoseconds = run.end_time.ToNanoseconds() - run.start_time.ToNanoseconds()
    return f"{nanoseconds / 1e9:.1f}"


def _print(run: unlearning_run_pb2.UnlearningRun, console: Console) -> None:
    console.print(f"{run.name}  {_line(run)}", markup=False, highlight=False)
    if run.failure:
        console.print(run.failure, style="red", markup=False, soft_wrap=True)
    if run.patch:
        console.print(run.patch, style="green", markup=False, soft_wrap=True)
    if run.measurements:
        table = Table("metric", "concept", "model", "value", "95 % interval", "n")
        for m in run.measurements:
            table.add_row(
                m.metric,
                m.concept or "all",
                "patched" if m.patched else "base",
                f"{m.value:.3f}",
                f"{m.low:.3f} to {m.high:.3f}",
                str(m.sample_size),
            )
        console.print(table)
    if run.gate_results:
        table = Table("gate", "concept", "verdict", "detail")
        for r in run.gate_results:
            table.add_row(
                r.rule, r.concept or "all", patch_pb2.Verdict.Name(r.verdict), r.detail
            )
        console.print(table)
