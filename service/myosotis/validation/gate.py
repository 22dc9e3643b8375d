"""The gate: whether measurements allow a patch to be rolled out. In doubt, no."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Outcome of one line of the gate. Only PASS passes."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One line of the gate.

    Attributes:
        concept: ``policies/*/concepts/*``; empty when pooled.
        rule: ``detection_rate``, ``retained_loss`` or ``known_concept``.
        verdict: the outcome.
        bound: the bound that was applied.
        value: what was found; None when the verdict is ERROR.
        detail: why, in one clause.
    """

    concept: str
    rule: str
    verdict: Verdict
    bound: float
    value: float | None = None
    detail: str = ""


def judge(concept: str, rule: str, value: float | None, bound: float) -> GateResult:
    """Whether *value* is at most *bound*; a value that is missing or NaN is ERROR."""
    if value is None or not math.isfinite(value):
        return GateResult(
            concept, rule, Verdict.ERROR, bound, detail="could not be measured"
        )
    verdict = Verdict.PASS if value <= bound else Verdict.FAIL
    return GateResult(
        concept, rule, verdict, bound, value, f"{value:.3f} against at most {bound:g}"
    )


def passed(results: Iterable[GateResult]) -> bool:
    """Whether a patch may be rolled out: at least one line, and PASS on every one."""
    verdicts = [result.verdict for result in results]
    return bool(verdicts) and all(verdict is Verdict.PASS for verdict in verdicts)


def refusal(results: Iterable[GateResult]) -> str:
    """The lines that did not pass, in one line of text; empty when all passed."""
    return "; ".join(
        f"{r.verdict} {r.rule}{' of ' + r.concept if r.concept else ''}: {r.detail}"
        for r in results
        if r.verdict is not Verdict.PASS
    )
