"""What a folder of policy files asks of the registry."""

from dataclasses import dataclass

from myosotis.errors import PolicySyntaxError
from myosotis.policy.files import PolicyFile, PolicyFolder
from myosotis.policy.policies import PolicyRevision, Registry
from myosotis.policy.ports import PolicyChange


@dataclass(frozen=True, slots=True)
class FolderSync:
    """The way from a registry to a folder.

    Attributes:
        changes: what is due, by policy name; all of it is one step.
        errors: files that are not in force, by file name: not a policy, or a policy
            that somebody else keeps. What the registry has of them stays.
    """

    changes: tuple[PolicyChange, ...]
    errors: tuple[PolicySyntaxError, ...]


def plan_sync(registry: Registry, folder: PolicyFolder) -> FolderSync:
    """The changes that make *registry* say what *folder* says.

    A policy belongs to the file that its latest revision came from. It moves to
    another file only when its own file is gone or holds another policy now; it is
    deleted when no file has it. A broken file keeps its policies as they are.
    """
    stored = {revision.policy_name: revision for revision in registry.policies}
    broken = folder.broken
    changes: list[PolicyChange] = []
    conflicts: list[PolicySyntaxError] = []
    for file in folder.files:
        name = file.policy.name
        revision = stored.pop(name, None)
        keeper = _other_keeper(revision, file, broken)
        if keeper:
            problem = f"{name} is kept {keeper}; give this one another name"
            conflicts.append(file.error("name", problem))
        elif _differs(revision, file):
            changes.append(PolicyChange(name, file.policy, file.path.name))
    changes += [
        PolicyChange(revision.policy_name, None, revision.source_file)
        for revision in stored.values()
        if revision.source_file and revision.source_file not in broken
    ]
    return FolderSync(
        tuple(sorted(changes, key=lambda change: change.name)),
        tuple(sorted((*folder.errors, *conflicts), key=lambda error: error.path)),
    )


def _other_keeper(
    revision: PolicyRevision | None, file: PolicyFile, broken: frozenset[str]
) -> str:
    """Who else keeps the policy of *file*, in words; empty when nobody does."""
    if revision is None or revision.source_file == file.path.name:
        return ""
    if not revision.source_file:
        return "by the API"
    # A file that is gone, or that holds another policy now, keeps it no longer.
    return f"in {revision.source_file}" if revision.source_file in broken else ""


def _differs(revision: PolicyRevision | None, file: PolicyFile) -> bool:
    return (
        revision is None
        or revision.policy != file.policy
        or revision.source_file != file.path.name
    )
