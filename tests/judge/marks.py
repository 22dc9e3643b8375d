"""The judge's figures for pictures that the recipe's stage `evaluate` drew.

`python -m tests.judge.marks FOLDER` reads `pictures.npy`, all concepts x styles in
order, and writes `judge.json` beside it. Nothing in the recipe reads that file.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from myosotis.embedded.recipe.concepts import CONCEPTS, STYLES
from myosotis.embedded.recipe.evaluation import Cell, cells

from tests.judge.judge import Judge, Judgement


def figures(asked: Sequence[Cell], judged: Sequence[Judgement]) -> dict[str, object]:
    """Accuracies, whole, by group and by style, and the share of clear pictures."""
    groups: dict[str, list[bool]] = defaultdict(list)
    styles: dict[str, list[bool]] = defaultdict(list)
    missed = []
    for cell, judgement in zip(asked, judged, strict=True):
        concept = CONCEPTS[cell.concept]
        hit = judgement.concept == concept.noun
        groups[concept.group].append(hit)
        styles[STYLES[cell.style]].append(hit)
        if not hit:
            missed.append(f"{cell.prompt}: {judgement.concept}")
    by_group = {name: round(float(np.mean(hits)), 4) for name, hits in groups.items()}
    return {
        "judge_concept_accuracy": round(
            float(np.mean([hit for hits in groups.values() for hit in hits])), 4
        ),
        "judge_style_accuracy": round(
            float(
                np.mean(
                    [
                        judgement.style == STYLES[cell.style]
                        for cell, judgement in zip(asked, judged, strict=True)
                    ]
                )
            ),
            4,
        ),
        "judge_clear": round(float(np.mean([j.clear for j in judged])), 4),
        "judge_worst_group": min(by_group.values()),
        "n": len(judged),
        "groups": by_group,
        "styles": {name: round(float(np.mean(h)), 4) for name, h in styles.items()},
        "missed": missed,
    }


def main() -> int:
    """Mark one folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.judge.marks")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    pictures = np.load(folder / "pictures.npy")
    asked = cells()
    if len(pictures) != len(asked):
        parser.error(f"{folder} does not hold all {len(asked)} pictures")
    marks = figures(asked, Judge.load().judge(pictures))
    (folder / "judge.json").write_text(json.dumps(marks, indent=1) + "\n")
    short = {k: v for k, v in marks.items() if k != "missed"}
    sys.stdout.write(json.dumps(short, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
