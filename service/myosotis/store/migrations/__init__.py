"""Alembic's environment; :mod:`myosotis.store.schema` runs it."""
