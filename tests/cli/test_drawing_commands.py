"""`myosotis evaluate` and `myosotis generate`, without the command line's parser."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from myosotis.cli.evaluate import evaluate
from myosotis.cli.generate import SHEET_NAME, Wish, generate
from myosotis.errors import (
    InvalidArgumentError,
    MyosotisError,
    PatchRefusedError,
    UnavailableError,
)
from myosotis.execution.staging import MANIFEST_NAME, TENSOR_FILE_NAME
from myosotis.validation.probes import SampleSizes
from PIL import Image
from rich.console import Console

PETAL = "models/petal"
SIZES = SampleSizes(8, 8, 8, 8, 8)


def a_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def draw(out: Path, *, patch: Path | None = None, count: int = 2) -> None:
    generate(
        PETAL,
        Wish("a dog", 7, count),
        patch=patch,
        out=out,
        console=a_console(),
        progress_console=a_console(),
    )


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_pictures_are_named_by_seed_and_shown_on_a_sheet(tmp_path: Path) -> None:
    draw(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"7.png", "8.png", SHEET_NAME}
    assert pixels(tmp_path / "7.png") != pixels(tmp_path / "8.png")
    with Image.open(tmp_path / "7.png") as image:
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert image.info["myosotis:prompt"] == "a dog"
        assert image.info["myosotis:seed"] == "7"
        assert image.info["myosotis:patch"] == ""


def test_the_same_words_give_the_same_pictures_and_a_patch_gives_others(
    tmp_path: Path, patch_folder: Path
) -> None:
    for name, patch in (("a", None), ("b", None), ("c", patch_folder)):
        draw(tmp_path / name, patch=patch, count=1)
    base, again, patched = (pixels(tmp_path / name / "7.png") for name in "abc")
    assert base == again
    assert base != patched
    with Image.open(tmp_path / "c" / "7.png") as image:
        assert len(image.info["myosotis:patch"]) == 64


def flip_a_bit(folder: Path) -> None:
    path = folder / TENSOR_FILE_NAME
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off(folder: Path) -> None:
    path = folder / TENSOR_FILE_NAME
    path.write_bytes(path.read_bytes()[:-8])


def make_for_another_base(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps(manifest | {"base_digest": "0" * 64}))


def claim_another_root(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_bytes())
    manifest["tensor_roots"]["F32"] = "0" * 64
    path.write_text(json.dumps(manifest))


def write_nonsense(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_text("{")


def lose_the_tensors(folder: Path) -> None:
    (folder / TENSOR_FILE_NAME).unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (flip_a_bit, PatchRefusedError),
        (cut_off, PatchRefusedError),
        (make_for_another_base, PatchRefusedError),
        (claim_another_root, PatchRefusedError),
        (write_nonsense, PatchRefusedError),
        (lose_the_tensors, UnavailableError),
        (lose_the_manifest, UnavailableError),
    ],
)
def test_a_bad_patch_is_one_line_and_draws_nothing(
    tmp_path: Path,
    patch_folder: Path,
    spoil: Callable[[Path], None],
    error: type[MyosotisError],
) -> None:
    spoil(patch_folder)
    out = tmp_path / "out"
    with pytest.raises(error) as caught:
        draw(out, patch=patch_folder)
    assert "\n" not in str(caught.value)
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("prompt", "seed", "count", "field"),
    [
        ("", 0, 1, "prompt"),
        ("a dog", -1, 1, "seed"),
        ("a dog", 2**63, 1, "seed"),
        ("a dog", 0, 0, "count"),
        ("a dog", 0, 1001, "count"),
    ],
)
def test_a_wish_that_cannot_be_drawn_names_its_field(
    prompt: str, seed: int, count: int, field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Wish(prompt, seed, count)
    assert caught.value.field == field


def measure(
    *, concepts: tuple[str, ...], patch: Path | None = None, as_json: bool = True
) -> str:
    console = a_console()
    evaluate(
        PETAL,
        patch=patch,
        concepts=concepts,
        retain=(),
        seed=0,
        as_json=as_json,
        console=console,
        progress_console=a_console(),
        sizes=SIZES,
    )
    return written(console)


def test_base_and_patched_figures_stand_side_by_side_in_json(
    patch_folder: Path,
) -> None:
    found = json.loads(measure(concepts=("bomb",), patch=patch_folder))
    for key in ("before_rate", "after_rate", "retained_before", "retained_after"):
        assert found[f"{key}_n"] == 8
        assert 0 <= found[f"{key}_low"] <= found[key] <= found[f"{key}_high"] <= 1
    assert found["model"] == PETAL
    assert len(found["patch"]) == 64
    assert len(found["measurements"]) == 6
    assert all(rate["detector_profile"] for rate in found["measurements"])
    assert found["before_rate"] >= 0.7


def test_without_a_patch_there_is_nothing_after() -> None:
    table = measure(concepts=("bomb, explosive",), as_json=False)
    assert "bomb detected" in table
    assert "retained, accuracy" in table
    assert "patched" not in table


@pytest.mark.parametrize("concepts", [(), ("",), (" , ",), ("dog", "dog")], ids=str)
def test_words_that_make_no_plan_are_refused(concepts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        measure(concepts=concepts)


def test_a_model_without_detector_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        evaluate(
            f"models/other={tmp_path}",
            patch=None,
            concepts=("dog",),
            retain=(),
            seed=0,
            as_json=True,
            console=a_console(),
            progress_console=a_console(),
        )
