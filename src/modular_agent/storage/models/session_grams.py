"""What sessions are searched by: a full-text table, which SQLAlchemy's `Table` cannot say."""

from typing import Final

__all__ = ["SESSION_GRAMS"]

# Without content: a row is its grams, under the session's `n`. Non-ASCII bytes are token characters too.
SESSION_GRAMS: Final = (
    "CREATE VIRTUAL TABLE session_grams USING"
    " fts5(g, content='', detail=none, columnsize=0, tokenize=\"ascii tokenchars '-_.:/@+#'\")"
)
