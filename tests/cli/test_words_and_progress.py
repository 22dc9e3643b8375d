import io

import pytest
from myosotis.cli.plans import plan_of_words
from myosotis.cli.progress import progress
from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Method
from myosotis.unlearning.runs import RunProgress
from rich.console import Console

PETAL = "models/petal"


def test_words_become_concepts_of_a_policy() -> None:
    plan = plan_of_words(
        PETAL, ["Police Officer, policeman", "dog"], retain=["cat", "cat"]
    )
    assert [c.name for c in plan.concepts] == [
        "policies/command-line/concepts/dog",
        "policies/command-line/concepts/police-officer",
    ]
    assert plan.concepts[1].concept.phrases == ("Police Officer", "policeman")
    assert {c.concept.retain for c in plan.concepts} == {("cat",)}


def test_words_without_a_latin_letter_are_numbered() -> None:
    plan = plan_of_words(PETAL, ["собака", "犬"], method=Method.CLOSED_FORM)
    names = [c.name.rpartition("/")[2] for c in plan.concepts]
    assert names == ["concept-1", "concept-2"]
    assert {c.concept.method for c in plan.concepts} == {Method.CLOSED_FORM}


@pytest.mark.parametrize(
    ("concepts", "retain"),
    [((), ()), (("dog", "Dog"), ()), (("dog",), ("DOG",)), (("dog, ",), ())],
    ids=str,
)
def test_words_that_contradict_themselves_are_refused(
    concepts: tuple[str, ...], retain: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidArgumentError):
        plan_of_words(PETAL, concepts, retain=retain)


def test_a_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress(console) as told:
        told(RunProgress("erase", 1, 2))
        told(RunProgress("measure", 3, 4))
        told(RunProgress("measure", 4, 4))
    assert "measure" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_short_work_prints_no_line() -> None:
    console = Console(file=io.StringIO())
    with progress(console) as told:
        told(RunProgress("measure", 3, 4))
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]  # a StringIO
