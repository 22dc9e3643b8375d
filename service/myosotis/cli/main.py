"""The `myosotis` command. Each command imports what it needs, and nothing else."""

import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from myosotis.errors import MyosotisError
from myosotis.policy.concepts import Category, Method

app = typer.Typer(
    name="myosotis",
    help="Safety moderation for deployed text-to-image models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="Policies.", no_args_is_help=True)
run_app = typer.Typer(help="Unlearning runs.", no_args_is_help=True)
patch_app = typer.Typer(help="Patches and generations.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(run_app, name="run")
app.add_typer(patch_app, name="patch")

# Programs that read the output get whole names, not what fits a screen.
_out = Console(width=None if sys.stdout.isatty() else 240)
_progress = Console(stderr=True)

Server = Annotated[
    str,
    typer.Option(
        "--server", envvar="MYOSOTIS_SERVER", help="Control plane, host:port."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="MYOSOTIS_MODEL",
        help="models/petal, or models/NAME=FOLDER, or models/NAME=HUB_ID.",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        envvar="MYOSOTIS_THREADS",
        min=1,
        help="Threads of torch; the sum over all processes should be the cores.",
    ),
]
_SERVER = "127.0.0.1:8470"
_MODEL = "models/petal"
_ALL_THREADS = os.cpu_count() or 1
# Two processes that draw share a machine by default: a worker and a server.
_THREADS = max(1, _ALL_THREADS // 2)


def main() -> None:
    """Run the command line; every failure is one line on stderr and exit code 1."""
    # Read at import by onnxruntime, which would send telemetry otherwise.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Its C core logs what becomes an error of ours anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Waiting threads that spin starve the other processes of a small machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables: prompts are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except MyosotisError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted")


def _fail(problem: str) -> None:
    Console(stderr=True).print(
        f"error: {problem}", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(1)


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - one option each
    listen: Annotated[
        str, typer.Option(envvar="MYOSOTIS_LISTEN", help="host:port; port 0: any.")
    ] = _SERVER,
    database: Annotated[
        str, typer.Option(envvar="MYOSOTIS_DATABASE", help="SQLAlchemy URL.")
    ] = "sqlite:///myosotis.db",
    blobs: Annotated[
        Path, typer.Option(envvar="MYOSOTIS_BLOBS", help="Folder of blobs.")
    ] = Path("blobs"),
    policies: Annotated[
        Path | None,
        typer.Option(envvar="MYOSOTIS_POLICIES", help="Watched folder of policies."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(envvar="MYOSOTIS_MODELS", help="A registered model; repeatable."),
    ] = None,
    lease_seconds: Annotated[
        float,
        typer.Option(
            envvar="MYOSOTIS_LEASE_SECONDS",
            min=1,
            help="How long a silent worker keeps its run.",
        ),
    ] = 30,
    stale_seconds: Annotated[
        float,
        typer.Option(
            envvar="MYOSOTIS_STALE_SECONDS",
            min=1,
            help="After how long a silent server counts as stale.",
        ),
    ] = 15,
) -> None:
    """Run the control plane."""
    import asyncio

    from myosotis.cli.serve import (
        ControlPlaneSettings,
        run_control_plane,
    )

    settings = ControlPlaneSettings(
        listen=listen,
        database=database,
        blobs=blobs,
        policies=policies,
        models=tuple(name.partition("=")[0] for name in model or [_MODEL]),
        lease=timedelta(seconds=lease_seconds),
        stale=timedelta(seconds=stale_seconds),
    )
    asyncio.run(run_control_plane(settings))


@app.command()
def work(  # noqa: PLR0913, PLR0917 - one option each
    server: Server = _SERVER,
    model: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MYOSOTIS_MODELS",
            help="A model that it loads, as for --model elsewhere; repeatable.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            envvar="MYOSOTIS_WORKER", help="Its id, the same after a restart."
        ),
    ] = "worker",
    threads: Threads = _THREADS,
    probes_per_concept: Annotated[
        int,
        typer.Option(
            envvar="MYOSOTIS_PROBES_PER_CONCEPT",
            min=1,
            help="Pictures that the gate judges each ban by; fewer prove less.",
        ),
    ] = 20,
    retained_probes: Annotated[
        int,
        typer.Option(
            envvar="MYOSOTIS_RETAINED_PROBES",
            min=1,
            help="Pictures that the gate judges the rest by.",
        ),
    ] = 96,
) -> None:
    """Run a worker: unlearns, proves, publishes."""
    import asyncio

    from myosotis.cli.work import run_worker
    from myosotis.validation.probes import SampleSizes

    asyncio.run(
        run_worker(
            control_plane=server,
            models=tuple(model or [_MODEL]),
            name=f"workers/{name}",
            threads=threads,
            sizes=SampleSizes(
                per_concept=probes_per_concept,
                min_pooled=probes_per_concept,
                min_per_concept=min(10, probes_per_concept),
                retained=retained_probes,
            ),
        )
    )


@app.command()
def infer(  # noqa: PLR0913, PLR0917 - one option each
    server: Server = _SERVER,
    model: Model = _MODEL,
    listen: Annotated[
        str, typer.Option(envvar="MYOSOTIS_LISTEN", help="host:port; port 0: any.")
    ] = "127.0.0.1:8480",
    name: Annotated[
        str,
        typer.Option(envvar="MYOSOTIS_NAME", help="Its id, the same after a restart."),
    ] = "reference",
    moderation: Annotated[
        bool, typer.Option(help="Check each prompt with the control plane first.")
    ] = True,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Most pictures drawn together.")
    ] = 4,
    threads: Threads = _THREADS,
) -> None:
    """Run the reference inference server."""
    import asyncio

    from myosotis.cli.infer import InferenceSettings, run_inference_server
    from myosotis.execution.models import ModelSource

    settings = InferenceSettings(
        source=ModelSource.parse(model),
        control_plane=server,
        listen=listen,
        name=name,
        moderation=moderation,
        max_batch=max_batch,
        threads=threads,
    )
    asyncio.run(run_inference_server(settings))


@policy_app.command("check")
def policy_check(paths: list[Path]) -> None:
    """Check policy files or folders, offline."""
    from myosotis.cli.policies import check

    check(paths, console=_out)


@policy_app.command("diff")
def policy_diff(path: Path, server: Server = _SERVER) -> None:
    """Show how applying a file would change the stored policy."""
    from myosotis.cli.policies import diff

    diff(server, path, console=_out)


@policy_app.command("apply")
def policy_apply(
    paths: list[Path],
    server: Server = _SERVER,
    validate_only: Annotated[bool, typer.Option(help="Store nothing.")] = False,
) -> None:
    """Store policies from files or folders."""
    from myosotis.cli.policies import apply

    apply(server, paths, validate_only=validate_only, console=_out)


@policy_app.command("list")
def policy_list(server: Server = _SERVER, as_json: Json = False) -> None:
    """List policies."""
    from myosotis.cli.policies import list_policies

    list_policies(server, as_json=as_json, console=_out)


@policy_app.command("delete")
def policy_delete(name: str, server: Server = _SERVER) -> None:
    """Delete a policy, policies/NAME."""
    from myosotis.cli.policies import delete

    delete(server, name, console=_out)


@run_app.command("list")
def run_list(
    server: Server = _SERVER,
    model: Annotated[
        str, typer.Option(help="models/NAME; models/-: all.")
    ] = "models/-",
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    from myosotis.cli.runs import list_runs

    list_runs(server, model, as_json=as_json, console=_out)


@run_app.command("show")
def run_show(name: str, server: Server = _SERVER, as_json: Json = False) -> None:
    """Show a run with what was measured."""
    from myosotis.cli.runs import show

    show(server, name, as_json=as_json, console=_out)


@run_app.command("watch")
def run_watch(name: str, server: Server = _SERVER) -> None:
    """Follow a run; fails when it ends without a patch."""
    from myosotis.cli.runs import watch

    watch(server, name, console=_out)


@run_app.command("cancel")
def run_cancel(name: str, server: Server = _SERVER) -> None:
    """Cancel a run."""
    from myosotis.cli.runs import cancel

    cancel(server, name, console=_out)


@run_app.command("retry")
def run_retry(name: str, server: Server = _SERVER) -> None:
    """Try again what failed or was cancelled."""
    from myosotis.cli.runs import retry

    retry(server, name, console=_out)


@patch_app.command("list")
def patch_list(
    server: Server = _SERVER,
    model: Annotated[str, typer.Option(help="models/NAME.")] = _MODEL,
    as_json: Json = False,
) -> None:
    """List the generations of a model with their patches."""
    from myosotis.cli.fleet import list_patches

    list_patches(server, model, as_json=as_json, console=_out)


@patch_app.command("show")
def patch_show(name: str, server: Server = _SERVER) -> None:
    """Show a patch, models/MODEL/patches/PLAN."""
    from myosotis.cli.fleet import show_patch

    show_patch(server, name, console=_out)


@app.command()
def fleet(server: Server = _SERVER, as_json: Json = False) -> None:
    """List inference servers: generation, state, last refusal."""
    from myosotis.cli.fleet import fleet as show_fleet

    show_fleet(server, as_json=as_json, console=_out)


@app.command()
def unlearn(  # noqa: PLR0913, PLR0917 - one option each
    concept: Annotated[
        list[str],
        typer.Option(help="Words for a concept, parted by commas; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the patch.")],
    model: Model = _MODEL,
    retain: Annotated[
        list[str] | None, typer.Option(help="Words that must survive; repeatable.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="How; AUTO chooses.", case_sensitive=False)
    ] = Method.AUTO,
    category: Annotated[
        Category,
        typer.Option(help="Gives the bounds of the gate.", case_sensitive=False),
    ] = Category.OBJECT,
    measure: Annotated[
        bool, typer.Option(help="Prove the patch; without, no fleet takes it.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
    threads: Threads = _ALL_THREADS,
) -> None:
    """Make one patch without any server, prove it, and write it."""
    from myosotis.cli.unlearn import UnlearnOptions
    from myosotis.cli.unlearn import unlearn as run_unlearn

    options = UnlearnOptions(
        out=out,
        retain=tuple(retain or ()),
        method=method,
        category=category,
        seed=seed,
        measure=measure,
        threads=threads,
        as_json=as_json,
    )
    run_unlearn(model, concept, options, console=_out, progress_console=_progress)


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - one option each
    concept: Annotated[
        list[str],
        typer.Option(help="Words for a concept, parted by commas; repeatable."),
    ],
    model: Model = _MODEL,
    patch: Annotated[Path | None, typer.Option(help="A patch folder.")] = None,
    retain: Annotated[
        list[str] | None, typer.Option(help="Words that must survive; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the probes.")] = 0,
    as_json: Json = False,
    threads: Threads = _ALL_THREADS,
) -> None:
    """Measure a model, or a patch beside its base."""
    from myosotis.cli.evaluate import evaluate as run_evaluate

    _use_threads(threads)
    run_evaluate(
        model,
        patch=patch,
        concepts=concept,
        retain=retain or (),
        seed=seed,
        as_json=as_json,
        console=_out,
        progress_console=_progress,
    )


@app.command()
def generate(  # noqa: PLR0913, PLR0917 - one option each
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    model: Model = _MODEL,
    patch: Annotated[Path | None, typer.Option(help="A patch folder.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 1,
    threads: Threads = _ALL_THREADS,
) -> None:
    """Draw pictures, with or without a patch."""
    from myosotis.cli.generate import Wish
    from myosotis.cli.generate import generate as run_generate

    _use_threads(threads)
    run_generate(
        model,
        Wish(prompt, seed, count),
        patch=patch,
        out=out,
        console=_out,
        progress_console=_progress,
    )


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
