"""The grams of sessions: over the characters that join words in ids and names, and with whole words."""

import sqlite3
from collections.abc import Sequence

from alembic import op

from modular_agent.storage.session_grams import rebuild_grams

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("DROP TABLE session_grams")
    op.execute(
        "CREATE VIRTUAL TABLE session_grams USING"
        " fts5(g, content='', detail=none, columnsize=0, tokenize=\"ascii tokenchars '-_.:/@+#'\")"
    )
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    rebuild_grams(connection)  # a later revision that changes what is searched takes this line over
