"""Policy files: strict YAML in the proto3 JSON form of ``myosotis.v1.Policy``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from myosotis.errors import (
    InvalidArgumentError,
    PolicySyntaxError,
    UnavailableError,
)
from myosotis.policy import wire
from myosotis.policy.documents import (
    MAX_BYTES,
    DocumentError,
    Place,
    read_document,
)
from myosotis.policy.messages import message_from_document
from myosotis.policy.policies import Policy

_SUFFIXES = frozenset({".yaml", ".yml"})
_MAX_PROBLEM_LENGTH = 300


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that is a policy.

    Attributes:
        path: the file.
        policy: what it says.
        places: where each field stands, by dotted path such as ``models[0]``.
    """

    path: Path
    policy: Policy
    places: Mapping[str, Place] = field(compare=False, repr=False)

    def error(self, at: str, problem: str) -> PolicySyntaxError:
        """What is wrong with the field *at*, with the line and column of it."""
        return _error(self.path, at, problem, _nearest(self.places, at))


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """What a folder of policy files says, at one look.

    Attributes:
        files: those that are policies, by file name; no policy name twice.
        errors: one for each file that is none, by file name.
    """

    files: tuple[PolicyFile, ...] = ()
    errors: tuple[PolicySyntaxError, ...] = ()

    @property
    def broken(self) -> frozenset[str]:
        """Names of the files that are not policies."""
        return frozenset(error.path.name for error in self.errors)


def parse_policy(path: Path, content: bytes) -> PolicyFile:
    """The policy in *content*, which stands in *path*.

    Raises:
        PolicySyntaxError: with the place of the first thing that is wrong.
    """
    try:
        message, places = message_from_document(read_document(content))
    except DocumentError as error:
        raise _error(path, error.field, error.problem, error.place) from error
    try:
        policy = wire.policy_from_wire(message, path="")
    except InvalidArgumentError as error:
        place = _nearest(places, error.field)
        raise _error(path, error.field, error.problem, place) from error
    return PolicyFile(path, policy, places)


def read_policy_file(path: Path) -> PolicyFile:
    """The policy in the file *path*.

    Raises:
        PolicySyntaxError: also for a file that cannot be read.
    """
    try:
        content = _read(path)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise _error(path, "", problem, Place()) from error
    return parse_policy(path, content)


def read_policy_folder(folder: Path) -> PolicyFolder:
    """Every policy file in *folder*; its subfolders and hidden files are left alone.

    Raises:
        UnavailableError: when *folder* is missing or cannot be read. That says nothing
            about its policies.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if _is_policy_path(path))
    except OSError as error:
        problem = error.strerror or str(error)
        raise UnavailableError(f"policy folder {folder}", problem) from error
    files: dict[str, PolicyFile] = {}
    errors: list[PolicySyntaxError] = []
    for path in paths:
        try:
            file = _read_named(path)
            if first := files.get(file.policy.name):
                problem = f"{file.policy.name} is in {first.path.name} already"
                raise file.error("name", problem)
        except PolicySyntaxError as error:
            errors.append(error)
        else:
            files[file.policy.name] = file
    return PolicyFolder(tuple(files.values()), tuple(errors))


def refuse_unknown_models(
    folder: PolicyFolder, models: Collection[str]
) -> PolicyFolder:
    """*folder* with an error for each file that names a model not among *models*.

    Patterns may match nothing: they are meant for models to come.
    """
    files: list[PolicyFile] = []
    errors = list(folder.errors)
    for file in folder.files:
        index = file.policy.unknown_model(models)
        if index is None:
            files.append(file)
        else:
            problem = f"{file.policy.models[index]} is not registered"
            errors.append(file.error(f"models[{index}]", problem))
    return PolicyFolder(tuple(files), tuple(sorted(errors, key=lambda e: e.path)))


def is_policy_file_name(name: str) -> bool:
    """Whether a file of this name is meant to be a policy, and no editor's own."""
    return not name.startswith((".", "#")) and Path(name).suffix.lower() in _SUFFIXES


def _read_named(path: Path) -> PolicyFile:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        shown = path.name.encode(errors="backslashreplace").decode()
        problem = "the name of the file is not UTF-8"
        raise _error(path.with_name(shown), "", problem, Place()) from error
    return read_policy_file(path)


def _is_policy_path(path: Path) -> bool:
    return is_policy_file_name(path.name) and not path.is_dir()


def _read(path: Path) -> bytes:
    # Opening a pipe would wait for a writer.
    if not S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _error(path: Path, at: str, problem: str, place: Place) -> PolicySyntaxError:
    # Problems quote what was written, which may be a megabyte.
    if len(problem) > _MAX_PROBLEM_LENGTH:
        problem = f"{problem[:_MAX_PROBLEM_LENGTH]} ..."
    return PolicySyntaxError(at, problem, path, place.line, place.column)


def _nearest(places: Mapping[str, Place], at: str) -> Place:
    """The place of field *at*, or of the closest field around it."""
    while at and at not in places:
        cut = max(at.rfind("."), at.rfind("["))
        at = at[: max(cut, 0)]
    return places.get(at, Place())
