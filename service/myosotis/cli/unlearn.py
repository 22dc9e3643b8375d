"""`myosotis unlearn`: one patch from words, without any server."""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from myosotis.cli.figures import pooled_figures
from myosotis.cli.plans import plan_of_words
from myosotis.cli.progress import OnProgress, progress
from myosotis.errors import PreconditionError
from myosotis.execution.attempt import AttemptOutcome, Order, Workbench, attempt
from myosotis.execution.models import ModelSource, load_detector, load_model
from myosotis.execution.staging import MANIFEST_NAME, TENSOR_FILE_NAME
from myosotis.patches.building import Evidence, build_patch
from myosotis.patches.manifest import PatchManifest
from myosotis.policy.concepts import Category, Method
from myosotis.policy.plans import ErasurePlan
from myosotis.unlearning.erasing import erase
from myosotis.unlearning.runs import RunProgress
from myosotis.validation.evaluator import Watching
from myosotis.validation.probes import DEFAULT_SIZES, SampleSizes


@dataclass(frozen=True, slots=True)
class UnlearnOptions:
    """What the command line says beside model and words.

    Attributes:
        out: folder that gets ``manifest.json`` and ``patch.safetensors``.
        retain: phrases that must survive.
        method: of every concept.
        category: of every concept; gives the bounds of the gate.
        seed: of everything random.
        measure: prove the patch; without, nothing is known of it and no fleet takes it.
        threads: of torch.
        as_json: print JSON instead of lines.
        sizes: pictures to measure.
    """

    out: Path
    retain: Sequence[str] = ()
    method: Method = Method.AUTO
    category: Category = Category.OBJECT
    seed: int = 0
    measure: bool = True
    threads: int = 1
    as_json: bool = False
    sizes: SampleSizes = DEFAULT_SIZES


def unlearn(
    model: str,
    concepts: Sequence[str],
    options: UnlearnOptions,
    *,
    console: Console,
    progress_console: Console,
) -> None:
    """Make a patch, prove it, write it into a folder and print what it does.

    Args:
        model: as :meth:`ModelSource.parse` reads it.
        concepts: as :func:`plan_of_words` reads them.
        options: see there.
        console: gets the result.
        progress_console: gets the progress.

    Raises:
        InvalidArgumentError: unusable words.
        UnavailableError: a model without detector, or one that cannot be loaded.
        PreconditionError: the gate refused the patch. What was measured is printed all
            the same; nothing is written.
        OSError: the folder cannot be written.
    """
    started = time.perf_counter()
    torch.set_num_threads(options.threads)
    source = ModelSource.parse(model)
    plan = _with_category(
        plan_of_words(
            source.name, concepts, retain=options.retain, method=options.method
        ),
        options.category,
    )
    # Before the work: a folder that cannot be written must not cost minutes.
    options.out.mkdir(parents=True, exist_ok=True)
    with progress(progress_console) as on_progress:
        on_progress(RunProgress("load"))
        make = _proven if options.measure else _unproven
        outcome = make(source, plan, options, on_progress)
    if not outcome.refusal:
        _write(options.out, outcome)
    figures = _figures(outcome) | {"seconds": round(time.perf_counter() - started, 2)}
    _print(console, figures, options)
    if outcome.refusal:
        raise PreconditionError(f"the gate refused the patch: {outcome.refusal}")


def _proven(
    source: ModelSource,
    plan: ErasurePlan,
    options: UnlearnOptions,
    on_progress: OnProgress,
) -> AttemptOutcome:
    detector = load_detector(source)
    bench = Workbench.of(load_model(source), detector)
    order = Order(created_at=_now(), seed=options.seed, sizes=options.sizes)
    return attempt(bench, plan, order, Watching(on_progress))


def _unproven(
    source: ModelSource,
    plan: ErasurePlan,
    options: UnlearnOptions,
    on_progress: OnProgress,
) -> AttemptOutcome:
    model = load_model(source)
    erasure = erase(model, plan, on_progress=on_progress, seed=options.seed)
    built = build_patch(model, plan, erasure, Evidence(created_at=_now()))
    return AttemptOutcome(
        (), (), manifest=built.manifest.to_bytes(), tensor_file=built.content
    )


def _with_category(plan: ErasurePlan, category: Category) -> ErasurePlan:
    return replace(
        plan,
        concepts=tuple(
            replace(planned, concept=replace(planned.concept, category=category))
            for planned in plan.concepts
        ),
    )


def _write(folder: Path, outcome: AttemptOutcome) -> None:
    """Both files, each whole or not at all; the manifest last: it names the other."""
    for name, content in (
        (TENSOR_FILE_NAME, outcome.tensor_file),
        (MANIFEST_NAME, outcome.manifest),
    ):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            part = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                part.unlink()
                raise
        part.chmod(0o644)
        part.replace(folder / name)


def _figures(outcome: AttemptOutcome) -> dict[str, object]:
    """Flat rates, then what they come from."""
    figures: dict[str, object] = {
        **pooled_figures(outcome.measurements),
        "passed": bool(outcome.gate_results) and not outcome.refusal,
        "refusal": outcome.refusal,
    }
    if outcome.manifest:
        manifest = PatchManifest.from_bytes(outcome.manifest)
        figures |= {
            "model": manifest.model,
            "base_digest": manifest.base_digest,
            "patch": manifest.name,
            "methods": dict(manifest.methods),
            "changed_tensors": len(manifest.tensors),
            "tensor_file_bytes": len(outcome.tensor_file),
        }
    return figures | {
        "measurements": [asdict(rate) for rate in outcome.measurements],
        "gate_results": [asdict(result) for result in outcome.gate_results],
    }


def _print(
    console: Console, figures: dict[str, object], options: UnlearnOptions
) -> None:
    if options.as_json:
        text = json.dumps(figures, indent=2)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    lines = []
    for label, before, after in (
        ("banned", "before_rate", "after_rate"),
        ("retained", "retained_before", "retained_after"),
    ):
        if after in figures:
            lines.append(
                f"{label}: {figures[before]:.1%} before, {figures[after]:.1%} after "
                f"({figures[f'{after}_low']:.1%} to {figures[f'{after}_high']:.1%}, "
                f"n = {figures[f'{after}_n']})"
            )
    if not options.measure:
        lines.append("not measured: no fleet takes this patch")
    if "patch" in figures:
        lines.append(
            f"{figures['changed_tensors']} tensors, "
            f"{figures['tensor_file_bytes']} bytes, in {options.out}"
        )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
