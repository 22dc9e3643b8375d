"""`myosotis evaluate`: how well a model, or a patch on it, keeps to words."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from myosotis.cli.figures import pooled_figures
from myosotis.cli.plans import plan_of_words
from myosotis.cli.progress import progress
from myosotis.cli.workplace import PatchedModel, load_patched
from myosotis.execution.models import ModelSource, load_detector
from myosotis.unlearning.runs import RunProgress
from myosotis.validation.evaluator import Evaluator, Watching
from myosotis.validation.measurements import DETECTION_RATE, Measurement
from myosotis.validation.probes import DEFAULT_SIZES, SampleSizes, probe_set


def evaluate(  # noqa: PLR0913 - one option each
    model: str,
    *,
    patch: Path | None,
    concepts: Sequence[str],
    retain: Sequence[str],
    seed: int,
    as_json: bool,
    console: Console,
    progress_console: Console,
    sizes: SampleSizes = DEFAULT_SIZES,
) -> None:
    """Measure and print; base and patched side by side where *patch* is given.

    Args:
        model: as :meth:`ModelSource.parse` reads it.
        patch: a patch folder.
        concepts: as :func:`plan_of_words` reads them.
        retain: phrases that must survive, beside the model's own vocabulary.
        seed: of the probes.
        as_json: print JSON instead of a table.
        console: gets the result.
        progress_console: gets the progress.
        sizes: pictures to measure.

    Raises:
        InvalidArgumentError: unusable words.
        UnavailableError: a model, a detector or a folder that cannot be read.
        PatchRefusedError: a patch that no server would serve.
        EvaluationError: nothing can be said.
    """
    with progress(progress_console) as on_progress:
        on_progress(RunProgress("load"))
        name = ModelSource.parse(model).name
        plan = plan_of_words(name, concepts, retain=retain)
        loaded = load_patched(model, patch)
        evaluator = Evaluator(
            loaded.model, load_detector(loaded.source), loaded.base_digest
        )
        measured = evaluator.evaluate(
            probe_set(loaded.model.card, plan, seed=seed, sizes=sizes),
            loaded.unet,
            Watching(on_progress),
        )
    if as_json:
        text = json.dumps(_figures(loaded, measured), indent=2)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(_table(measured, is_patched=patch is not None))


def _figures(
    loaded: PatchedModel, measured: Sequence[Measurement]
) -> dict[str, object]:
    """Pooled rates under flat keys, every measurement, and what was measured."""
    return {
        "model": loaded.model.name,
        "base_digest": loaded.base_digest,
        "patch": loaded.patch_digest or None,
        **pooled_figures(measured),
        "measurements": [asdict(rate) for rate in measured],
    }


def _table(measured: Sequence[Measurement], *, is_patched: bool) -> Table:
    """A line for each concept, then the pooled ones."""
    table = Table("what", "pictures", "base", *(["patched"] if is_patched else []))
    rows: dict[tuple[str, str], list[Measurement]] = {}
    for rate in measured:
        rows.setdefault((rate.metric, rate.concept), []).append(rate)
    for (metric, concept), rates in rows.items():
        name = concept.rpartition("/")[2] or "all banned"
        what = f"{name} detected" if metric == DETECTION_RATE else "retained, accuracy"
        table.add_row(
            what, str(rates[0].sample_size), *(_shown(rate) for rate in rates)
        )
    if measured:
        table.caption = measured[0].detector_profile
    return table


def _shown(rate: Measurement) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"
