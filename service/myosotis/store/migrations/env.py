"""Runs the migrations on the connection that the caller opened."""

from alembic import context

from myosotis.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
# The caller's transaction holds all of it: a crash in between leaves the old tables.
context.run_migrations()
