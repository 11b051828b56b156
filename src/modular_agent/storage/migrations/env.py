"""Alembic's entry: the migrations run on the connection, and in the transaction, that `upgrade` has opened."""

from alembic import context

from modular_agent.storage.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite's DDL is transactional; Alembic has to be told
)
with context.begin_transaction():
    context.run_migrations()
