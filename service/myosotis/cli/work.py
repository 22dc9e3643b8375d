"""`myosotis work`: the composition root of the worker."""

import asyncio
import signal
from datetime import UTC, datetime

import structlog
import torch

from myosotis import names
from myosotis.errors import InvalidArgumentError
from myosotis.execution.attempt import Order, Workbench, attempt
from myosotis.execution.models import ModelSource, load_detector, load_model
from myosotis.execution.worker import RunRequest, RunResult, Worker
from myosotis.transport.channels import open_channel
from myosotis.unlearning.runs import RunProgress
from myosotis.validation.evaluator import Watching
from myosotis.validation.probes import SampleSizes

_log = structlog.get_logger(__name__)


async def run_worker(
    *,
    control_plane: str,
    models: tuple[str, ...],
    name: str,
    threads: int,
    sizes: SampleSizes,
) -> None:
    """Take runs until SIGINT or SIGTERM; a run under way is left to its lease.

    Args:
        control_plane: ``host:port``.
        models: what it can load, each as :meth:`ModelSource.parse` reads it.
        name: ``workers/{worker}``, the same after a restart.
        threads: of torch.
        sizes: pictures to measure each patch on.

    Raises:
        MyosotisError: what keeps it from starting, in one line.
    """
    names.parse("worker", name, field="name")
    sources = {source.name: source for source in map(ModelSource.parse, models)}
    torch.set_num_threads(threads)
    benches = _Benches(sources, sizes)
    loop = asyncio.get_running_loop()
    async with open_channel(control_plane, retry=True) as channel:
        worker = Worker(
            channel, name=name, models=tuple(sources), attempt=benches.attempt
        )
        working = asyncio.create_task(worker.work())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        _log.info("worker started", worker=name, models=sorted(sources))
        try:
            await working
        except asyncio.CancelledError:
            _log.info("worker stopped", worker=name)


class _Benches:
    """A bench for each model, made when it is first needed."""

    def __init__(self, sources: dict[str, ModelSource], sizes: SampleSizes) -> None:
        self._sources = sources
        self._sizes = sizes
        self._benches: dict[str, Workbench] = {}

    def attempt(self, request: RunRequest) -> RunResult:
        """Carry out one run."""
        request.on_progress(RunProgress("load"))
        order = Order(
            created_at=datetime.now(UTC).isoformat(),
            run_name=request.name,
            policy_revision=request.policy_revision,
            sizes=self._sizes,
        )
        watching = Watching(request.on_progress, request.cancelled)
        outcome = attempt(
            self._bench(request.plan.model), request.plan, order, watching
        )
        return RunResult(
            manifest=outcome.manifest,
            tensor_file=outcome.tensor_file,
            refusal=outcome.refusal,
            measurements=outcome.measurements,
            gate_results=outcome.gate_results,
        )

    def _bench(self, model: str) -> Workbench:
        if model not in self._sources:
            raise InvalidArgumentError("plan.model", f"{model} is not loaded here")
        if model not in self._benches:
            source = self._sources[model]
            self._benches[model] = Workbench.of(
                load_model(source), load_detector(source)
            )
        return self._benches[model]
