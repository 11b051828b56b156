"""Alembic's entry: the migrations run on the connection, and in the transaction, that `upgrade` has opened."""

from alembic import context
from sqlalchemy import MetaData

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=MetaData(  # how the constraints are called that a migration does not name
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    ),
    render_as_batch=True,
    transactional_ddl=True,  # SQLite's DDL is transactional; Alembic has to be told
)
with context.begin_transaction():
    context.run_migrations()
