import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.errors import PolicySyntaxError, UnavailableError
from myosotis.policy.concepts import Category, Gate, Method
from myosotis.policy.documents import MAX_BYTES
from myosotis.policy.files import (
    PolicyFolder,
    parse_policy,
    read_policy_file,
    read_policy_folder,
    refuse_unknown_models,
)
from myosotis.policy.policies import Enforcement, PromptAction, PromptRules

from tests.policy.builders import WEAPONS

WHOLE = b"""\
# A comment.
name: policies/harmful
title: "Weapons: all of them"
enforcement: DRY_RUN
models: ["models/petal", models/*]
concepts:
  - id: dagger
    category: HARMFUL
    action: FORGET
    phrases: ["dagger", stiletto, no, "42", 12 gauge]
    exceptions:
      - cloak and dagger novel
    anchor: "an object"
    retain: [kitchen]
    references: []
    method: CLOSED_FORM
    gate: {max_detection_rate: 0.05, maxRetainedLoss: 1}
moderation: {untilActive: FLAG, when_active: ALLOW}
"""

MALFORMED = Path(__file__).parent / "malformed"

# Line and column from 1, and the field.
PLACES = {
    "alias": (4, 56, "concepts[0].retain"),
    "anchor": (4, 41, "concepts[0].phrases"),
    "banned_and_retained": (7, 22, "concepts[0].retain[1]"),
    "boolean_as_phrase": (6, 20, "concepts[0].phrases[1]"),
    "boolean_key": (3, 1, ""),
    "category_missing": (4, 5, "concepts[0].category"),
    "comment_only": (1, 1, ""),
    "complex_key": (3, 3, ""),
    "concept_id_twice": (5, 10, "concepts[1].id"),
    "concept_is_text": (4, 5, "concepts[0]"),
    "control_character": (7, 9, "concepts[0].phrases[0]"),
    "deep_nesting": (3, 26, "concepts" + "[0]" * 15),
    "double_name": (4, 80, "concepts[0].gate.maxDetectionRate"),
    "duplicate_key": (3, 1, "name"),
    "duplicate_nested_key": (6, 5, "concepts[0].id"),
    "empty": (1, 1, ""),
    "empty_document": (2, 1, ""),
    "empty_value": (3, 7, "title"),
    "enforcement_no": (3, 14, "enforcement"),
    "enforcement_number": (3, 14, "enforcement"),
    "enforcement_unspecified": (3, 14, "enforcement"),
    "etag": (3, 1, "etag"),
    "gate_above_one": (8, 27, "concepts[0].gate.max_detection_rate"),
    "gate_not_a_number": (7, 31, "concepts[0].gate.max_retained_loss"),
    "gate_quoted": (7, 31, "concepts[0].gate.max_retained_loss"),
    "half_written": (5, 15, "concepts[0].category"),
    "list_at_top": (1, 1, ""),
    "mapping_as_list": (4, 3, "concepts"),
    "merge_key": (3, 1, ""),
    "models_text": (2, 9, "models"),
    "name_malformed": (1, 7, "name"),
    "name_missing": (2, 1, "name"),
    "no_concepts": (3, 11, "concepts"),
    "no_phrases": (6, 14, "concepts[0].phrases"),
    "not_utf8": (3, 11, ""),
    "null_phrase": (8, 8, "concepts[0].phrases[1]"),
    "number_as_phrase": (8, 9, "concepts[0].phrases[1]"),
    "octal_number": (4, 74, "concepts[0].gate.max_retained_loss"),
    "output_only": (3, 1, "revision"),
    "output_only_camel": (3, 1, "sourceFile"),
    "phrase_twice": (4, 53, "concepts[0].phrases[2]"),
    "references": (7, 17, "concepts[0].references"),
    "second_document": (4, 1, ""),
    "surrogate": (3, 8, "title"),
    "tab_indentation": (4, 1, ""),
    "tag": (3, 8, "title"),
    "unclosed_quote": (4, 1, ""),
    "unknown_action": (3, 28, "moderation.until_active"),
    "unknown_escape": (3, 11, ""),
    "unknown_key": (3, 1, "concept"),
    "unknown_nested_key": (6, 5, "concepts[0].phrase"),
    "unprintable": (3, 9, ""),
    "unsupported_action": (6, 13, "concepts[0].action"),
    "wrong_model": (2, 24, "models[1]"),
}


def test_every_field_of_a_policy_is_read() -> None:
    policy = parse_policy(Path("harmful.yaml"), WHOLE).policy

    assert policy.name == "policies/harmful"
    assert policy.title == "Weapons: all of them"
    assert policy.enforcement is Enforcement.DRY_RUN
    assert policy.models == ("models/petal", "models/*")
    assert policy.moderation == PromptRules(PromptAction.FLAG, PromptAction.ALLOW)
    concept = policy.concepts[0]
    assert concept.category is Category.HARMFUL
    # YAML 1.1 would read the third as false.
    assert concept.phrases == ("dagger", "stiletto", "no", "42", "12 gauge")
    assert concept.exceptions == ("cloak and dagger novel",)
    assert concept.anchor == "an object"
    assert concept.retain == ("kitchen",)
    assert concept.method is Method.CLOSED_FORM
    assert concept.gate == Gate(0.05, 1.0)


@pytest.mark.parametrize("stem", sorted(path.stem for path in MALFORMED.iterdir()))
def test_a_malformed_file_is_refused_where_it_is_wrong(stem: str) -> None:
    path = MALFORMED / f"{stem}.yaml"

    with pytest.raises(PolicySyntaxError) as refused:
        read_policy_file(path)

    error = refused.value
    assert (error.line, error.column, error.field) == PLACES[stem]
    assert str(error).startswith(f"{path}:{error.line}:{error.column}: ")
    assert "\n" not in str(error)


def test_a_number_as_a_phrase_is_told_to_be_quoted() -> None:
    with pytest.raises(PolicySyntaxError, match='quote it: "42"'):
        read_policy_file(MALFORMED / "number_as_phrase.yaml")


def test_a_misspelt_field_is_told_its_right_name() -> None:
    with pytest.raises(PolicySyntaxError, match="did you mean phrases"):
        read_policy_file(MALFORMED / "unknown_nested_key.yaml")


def test_a_file_of_just_one_mebibyte_is_read_and_a_larger_one_is_not(
    tmp_path: Path,
) -> None:
    largest = WEAPONS + b"#" * (MAX_BYTES - len(WEAPONS))
    path = tmp_path / "weapons.yaml"

    path.write_bytes(largest)
    assert read_policy_file(path).policy.name == "policies/weapons"

    path.write_bytes(largest + b"#")
    with pytest.raises(PolicySyntaxError):
        read_policy_file(path)


def test_the_example_in_the_repository_is_a_policy() -> None:
    folder = read_policy_folder(Path(__file__).parents[2] / "policies")

    assert folder.errors == ()
    names = [file.policy.name for file in folder.files]
    assert "policies/petal-harmful" in names


def _refused_or_read(content: bytes) -> None:
    try:
        parse_policy(Path("any.yaml"), content)
        place = (1, 1)
    except PolicySyntaxError as error:
        str(error).encode()
        place = (error.line, error.column)
    assert min(place) >= 1


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(content: bytes) -> None:
    _refused_or_read(content)


PUNCTUATION = "abn-:?,[]{}#&*!|>'\"%@`~<=\\ \t\n\r\u2028\x85.0x_"
SPANNERS = (
    *(b"", b"&a ", b"*a", b"!!str ", b"<<: ", b"? ", b"\t", b"null", b"1e999", b"{"),
    *(b"[", b"|\n", b"\0", b'"\\U00110000"', b"---\n", b"...", b"%YAML 9"),
)


@given(st.text(alphabet=PUNCTUATION, max_size=80))
def test_arbitrary_punctuation_is_read_or_refused(text: str) -> None:
    _refused_or_read(text.encode())


@given(
    st.integers(0, len(WHOLE)),
    st.integers(0, 12),
    st.sampled_from(SPANNERS) | st.binary(max_size=6),
)
def test_a_damaged_policy_is_read_or_refused(
    start: int, length: int, inserted: bytes
) -> None:
    _refused_or_read(WHOLE[:start] + inserted + WHOLE[start + length :])


@given(st.integers(0, len(WHOLE)))
def test_a_policy_that_is_half_written_is_read_or_refused(length: int) -> None:
    _refused_or_read(WHOLE[:length])


def _folder(tmp_path: Path, **files: bytes) -> PolicyFolder:
    for stem, content in files.items():
        (tmp_path / f"{stem}.yaml").write_bytes(content)
    return read_policy_folder(tmp_path)


def test_a_broken_file_leaves_the_others_readable(tmp_path: Path) -> None:
    folder = _folder(tmp_path, a=b"concepts: no\n", b=WEAPONS)

    assert [file.path.name for file in folder.files] == ["b.yaml"]
    assert [error.path.name for error in folder.errors] == ["a.yaml"]
    assert folder.broken == {"a.yaml"}


def test_the_second_file_with_a_policy_name_is_refused_at_its_name(
    tmp_path: Path,
) -> None:
    folder = _folder(tmp_path, a=WEAPONS, b=b"# again\n" + WEAPONS)

    assert [file.path.name for file in folder.files] == ["a.yaml"]
    (error,) = folder.errors
    assert (error.path.name, error.line, error.column) == ("b.yaml", 2, 7)


def test_what_editors_leave_behind_is_no_policy(tmp_path: Path) -> None:
    names = (".weapons.yaml.swp", "weapons.yaml~", "#weapons.yaml#", ".#weapons.yaml")
    for name in (*names, "4913", "README.md", ".hidden.yaml"):
        (tmp_path / name).write_bytes(b"{")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "weapons.yml").write_bytes(WEAPONS)

    folder = read_policy_folder(tmp_path)

    assert [file.path.name for file in folder.files] == ["weapons.yml"]
    assert folder.errors == ()


def test_files_that_cannot_be_read_are_errors_and_block_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "missing")
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_bytes(WEAPONS)

    folder = read_policy_folder(tmp_path)

    assert folder.files == ()
    assert folder.broken == {"pipe.yaml", "nowhere.yaml", "\\udcff.yaml"}
    for error in folder.errors:
        str(error).encode()


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(WEAPONS)
    (tmp_path / "weapons.yaml").symlink_to(target)

    assert len(read_policy_folder(tmp_path).files) == 1


def test_a_missing_folder_is_an_error_and_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        read_policy_folder(tmp_path / "missing")


def test_a_model_that_is_not_registered_is_refused_at_its_place(tmp_path: Path) -> None:
    content = WEAPONS.replace(b"[models/petal]", b"[models/*, models/lily]")
    folder = _folder(tmp_path, a=content)

    assert refuse_unknown_models(folder, {"models/petal", "models/lily"}) == folder
    checked = refuse_unknown_models(folder, {"models/petal"})
    assert checked.files == ()
    assert (checked.errors[0].line, checked.errors[0].column) == (2, 20)
