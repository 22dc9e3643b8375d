"""`myosotis generate`: pictures of a prompt, from a model or a patch on it."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from myosotis.cli.progress import OnProgress, progress
from myosotis.cli.workplace import PatchedModel, load_patched
from myosotis.errors import InvalidArgumentError
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.runs import RunProgress
from myosotis.validation.evaluator import with_unet
from myosotis.validation.sheets import contact_sheet

SHEET_NAME = "sheet.png"
MAX_COUNT = 1000
MAX_SEED = 2**63

_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What to draw.

    Attributes:
        prompt: of every picture.
        seed: of the first picture; each further one has the next; [0, 2**63).
        count: pictures, 1 to 1000.

    Raises:
        InvalidArgumentError: naming the field.
    """

    prompt: str
    seed: int
    count: int

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InvalidArgumentError("prompt", "is empty")
        if not 1 <= self.count <= MAX_COUNT:
            raise InvalidArgumentError("count", f"not between 1 and {MAX_COUNT}")
        if not 0 <= self.seed <= MAX_SEED - self.count:
            raise InvalidArgumentError("seed", "negative or too large")

    @property
    def drawings(self) -> list[Drawing]:
        return [Drawing(self.prompt, self.seed + n) for n in range(self.count)]


def generate(  # noqa: PLR0913 - one option each
    model: str,
    wish: Wish,
    *,
    patch: Path | None,
    out: Path,
    console: Console,
    progress_console: Console,
) -> None:
    """Draw into *out*: ``{seed}.png`` each, and all of them on ``sheet.png``.

    A picture's file names the model, the prompt, the seed and the patch it came from.

    Raises:
        UnavailableError: a model or a patch folder that cannot be read.
        PatchRefusedError: a patch that no server would serve.
        OSError: *out* cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with progress(progress_console) as on_progress:
        on_progress(RunProgress("load"))
        loaded = load_patched(model, patch)
        _draw(loaded, wish, out, on_progress)
    console.print(f"{wish.count} pictures in {out}", markup=False, highlight=False)


def _draw(loaded: PatchedModel, wish: Wish, out: Path, on_progress: OnProgress) -> None:
    pipeline, card = loaded.model.pipeline, loaded.model.card
    if loaded.unet is not None:
        pipeline = with_unet(pipeline, loaded.unet)
    drawings, pictures = wish.drawings, []
    for start in range(0, len(drawings), _BATCH_SIZE):
        on_progress(RunProgress("draw", start, len(drawings)))
        batch = drawings[start : start + _BATCH_SIZE]
        drawn = draw_batch(
            pipeline,
            batch,
            step_count=card.step_count,
            guidance_scale=card.guidance_scale,
        )
        for drawing, picture in zip(batch, drawn, strict=True):
            path = out / f"{drawing.seed}.png"
            Image.fromarray(picture).save(path, pnginfo=_origin(loaded, drawing))
        pictures.append(drawn)
    on_progress(RunProgress("draw", len(drawings), len(drawings)))
    label = f"{wish.prompt}\n{'patched' if loaded.patch else 'base'}"
    rows = [(label if not n else "", row) for n, row in enumerate(pictures)]
    contact_sheet(rows).save(out / SHEET_NAME)


def _origin(loaded: PatchedModel, drawing: Drawing) -> PngInfo:
    """Where a picture comes from, as text chunks."""
    info = PngInfo()
    for key, value in (
        ("model", loaded.model.name),
        ("base", loaded.base_digest),
        ("patch", loaded.patch_digest),
        ("prompt", drawing.prompt),
        ("seed", str(drawing.seed)),
    ):
        info.add_itxt(f"myosotis:{key}", value)
    return info
