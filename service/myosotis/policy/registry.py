"""The registry in use: checks each change, stores it, and tells who listens."""

from collections.abc import Callable, Collection
from datetime import datetime

from myosotis.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PolicySyntaxError,
    PreconditionError,
)
from myosotis.policy.files import PolicyFolder, refuse_unknown_models
from myosotis.policy.policies import Policy, PolicyRevision, Registry
from myosotis.policy.ports import PolicyChange, PolicyStore
from myosotis.policy.sync import plan_sync


class PolicyRegistry:
    """Applies changes from the API and from the policy folder."""

    def __init__(
        self,
        store: PolicyStore,
        *,
        models: Collection[str],
        now: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        """Keep policies in *store*.

        Args:
            store: where revisions are kept.
            models: names of the registered models, ``models/{model}``.
            now: the time, UTC.
            on_change: called after each stored change, from the thread that made it.
        """
        self._store = store
        self._models = frozenset(models)
        self._now = now
        self._on_change = on_change

    def update(
        self, policy: Policy, *, etag: str, allow_missing: bool, validate_only: bool
    ) -> PolicyRevision:
        """Store *policy*; an equal form is no new revision.

        Raises:
            InvalidArgumentError: a model that is not registered.
            NotFoundError: no such policy, and not *allow_missing*.
            ConflictError: *etag* is given and stale, or somebody else was faster.
            PreconditionError: the policy is kept in a file.
        """
        self._refuse_unknown_models(policy)
        registry = self._store.registry()
        stored = self._stored(registry, policy.name, etag)
        if stored is None and not allow_missing:
            raise NotFoundError(policy.name)
        if stored is not None and stored.policy == policy:
            return stored
        if validate_only:
            return PolicyRevision(registry.revision, policy.name, policy, self._now())
        changed = self._change(registry, [PolicyChange(policy.name, policy)])
        return next(r for r in changed.policies if r.policy_name == policy.name)

    def delete(self, name: str, *, etag: str) -> Registry:
        """Delete a policy; raises as :meth:`update`."""
        registry = self._store.registry()
        if self._stored(registry, name, etag) is None:
            raise NotFoundError(name)
        return self._change(registry, [PolicyChange(name, None)])

    def sync(self, folder: PolicyFolder) -> tuple[PolicySyntaxError, ...]:
        """Make the registry say what *folder* says.

        Returns:
            What is wrong with files that are not in force. Policies of broken files
            stay as they were.
        """
        files = refuse_unknown_models(folder, self._models)
        while True:
            registry = self._store.registry()
            plan = plan_sync(registry, files)
            if not plan.changes:
                return plan.errors
            try:
                self._change(registry, plan.changes)
            except ConflictError:
                continue  # the API changed something meanwhile: plan again
            return plan.errors

    def _change(
        self, registry: Registry, changes: list[PolicyChange] | tuple[PolicyChange, ...]
    ) -> Registry:
        changed = self._store.change(
            changes, expected_revision=registry.revision, now=self._now()
        )
        self._on_change()
        return changed

    def _stored(
        self, registry: Registry, name: str, etag: str
    ) -> PolicyRevision | None:
        for revision in registry.policies:
            if revision.policy_name != name or revision.policy is None:
                continue
            if revision.source_file:
                raise PreconditionError(
                    f"{name} is kept in the file {revision.source_file}; edit that"
                )
            if etag and etag != revision.policy.etag:
                raise ConflictError(name)
            return revision
        return None

    def _refuse_unknown_models(self, policy: Policy) -> None:
        index = policy.unknown_model(self._models)
        if index is not None:
            known = ", ".join(sorted(self._models))
            raise InvalidArgumentError(
                f"policy.models[{index}]",
                f"{policy.models[index]} is not registered; there are {known}",
            )
