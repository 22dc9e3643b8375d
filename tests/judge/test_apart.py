"""The judge takes no part: no package of the project imports it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("service/myosotis", "kernels/myosotis_kernels")


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_no_package_imports_from_the_tests() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 20
    guilty = [
        file.relative_to(ROOT).as_posix()
        for file in files
        if any(name.split(".")[0] == "tests" for name in imported(file.read_text()))
    ]
    assert guilty == []


def test_the_judge_shares_no_network_and_no_damage_with_the_detector() -> None:
    forbidden = {
        "myosotis.embedded.detector",
        "myosotis.embedded.tower",
        "myosotis.embedded.recipe.detector",
        "myosotis.embedded.recipe.augmentation",
    }
    for name in ("judge.py", "network.py", "pictures.py", "training.py"):
        source = (ROOT / "tests/judge" / name).read_text()
        assert not imported(source) & forbidden
