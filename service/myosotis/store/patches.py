"""Published patches and generations in SQL."""

from sqlalchemy import Engine, Row, Select, exc, func, insert, select, tuple_

from myosotis.digests import Digest
from myosotis.errors import ConflictError, IntegrityError, NotFoundError
from myosotis.patches.manifest import PatchManifest
from myosotis.rollout.generations import Generation, PublishedPatch
from myosotis.store import tables
from myosotis.store.database import reading, writing
from myosotis.store.runs import swap_run
from myosotis.store.values import (
    from_document,
    stored,
    time_from_text,
    time_to_text,
    to_document,
)
from myosotis.unlearning.runs import UnlearningRun

_PATCH = tables.patches.c
_GENERATION = tables.generations.c


class SqlPatchStore:
    """Implements :class:`myosotis.rollout.ports.PatchStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def publish(
        self, run: UnlearningRun, finished: UnlearningRun, patch: PublishedPatch
    ) -> None:
        known = select(_PATCH.name).where(_PATCH.name == patch.name)
        with writing(self._engine) as connection:
            swap_run(connection, run, finished)
            if connection.execute(known).first() is None:
                connection.execute(insert(tables.patches).values(_patch_values(patch)))

    def patch(self, name: str) -> PublishedPatch:
        query = select(tables.patches).where(_PATCH.name == name)
        found = [_patch(row) for row in self._rows(query)]
        if not found:
            raise NotFoundError(name)
        return found[0]

    def find_patch(self, model: str, plan_digest: str) -> PublishedPatch | None:
        try:
            return self.patch(f"{model}/patches/{plan_digest}")
        except NotFoundError:
            return None

    def patches(
        self, model: str, *, limit: int, before: str | None = None
    ) -> tuple[PublishedPatch, ...]:
        query = select(tables.patches).where(_PATCH.model == model)
        if before is not None:
            time = time_to_text(self.patch(before).create_time)
            query = query.where(
                tuple_(_PATCH.create_time, _PATCH.name) < (time, before)
            )
        query = query.order_by(_PATCH.create_time.desc(), _PATCH.name.desc())
        return tuple(_patch(row) for row in self._rows(query.limit(limit)))

    def current(self, model: str) -> Generation | None:
        newest = self.generations(model, limit=1)
        return newest[0] if newest else None

    def add_generation(self, generation: Generation) -> None:
        newest = select(func.max(_GENERATION.number)).where(
            _GENERATION.model == generation.model
        )
        try:
            with writing(self._engine) as connection:
                if generation.number != (connection.scalar(newest) or 0) + 1:
                    raise ConflictError(generation.name)
                row = insert(tables.generations).values(_generation_values(generation))
                connection.execute(row)
        except exc.IntegrityError as error:
            # Another writer added the same number first.
            raise ConflictError(generation.name) from error

    def generation(self, model: str, number: int) -> Generation:
        query = select(tables.generations).where(
            _GENERATION.model == model, _GENERATION.number == number
        )
        found = [_generation(row) for row in self._rows(query)]
        if not found:
            raise NotFoundError(f"{model}/generations/{number}")
        return found[0]

    def generations(
        self, model: str, *, limit: int, before: int | None = None
    ) -> tuple[Generation, ...]:
        query = select(tables.generations).where(_GENERATION.model == model)
        if before is not None:
            query = query.where(_GENERATION.number < before)
        query = query.order_by(_GENERATION.number.desc()).limit(limit)
        return tuple(_generation(row) for row in self._rows(query))

    def _rows(self, query: Select[tuple[object, ...]]) -> list[Row[tuple[object, ...]]]:
        with reading(self._engine) as connection:
            return list(connection.execute(query))


def _patch(row: Row[tuple[object, ...]]) -> PublishedPatch:
    with stored(row.name):
        patch = PublishedPatch(
            manifest=from_document(PatchManifest, row.manifest),
            manifest_digest=Digest(row.manifest_sha256, int(row.manifest_size_bytes)),
            create_time=time_from_text(row.create_time),
        )
        if patch.name != row.name:
            raise IntegrityError(row.name)
        return patch


def _patch_values(patch: PublishedPatch) -> dict[str, object]:
    return {
        "name": patch.name,
        "model": patch.manifest.model,
        "manifest": to_document(patch.manifest),
        "manifest_sha256": patch.manifest_digest.sha256,
        "manifest_size_bytes": patch.manifest_digest.size_bytes,
        "create_time": time_to_text(patch.create_time),
    }


def _generation(row: Row[tuple[object, ...]]) -> Generation:
    with stored(f"{row.model}/generations/{row.number}"):
        return Generation(
            model=row.model,
            number=int(row.number),
            plan_digest=row.plan_digest,
            policy_revision=int(row.policy_revision),
            manifest_digest=Digest(row.manifest_sha256, int(row.manifest_size_bytes)),
            create_time=time_from_text(row.create_time),
        )


def _generation_values(generation: Generation) -> dict[str, object]:
    return {
        "model": generation.model,
        "number": generation.number,
        "plan_digest": generation.plan_digest,
        "policy_revision": generation.policy_revision,
        "manifest_sha256": generation.manifest_digest.sha256,
        "manifest_size_bytes": generation.manifest_digest.size_bytes,
        "create_time": time_to_text(generation.create_time),
    }
