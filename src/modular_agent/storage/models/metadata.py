"""The one list of all tables, and what a column may say of itself."""

from typing import Final

from modular_agent.storage.models.table import MetaData

__all__ = ["GREATEST", "KEPT", "LEAST", "metadata"]

KEPT: Final = "kept"  # in a column's `info`: replacing a row leaves the column as it is
LEAST: Final = "least"  # adding to a row keeps the lesser of both values
GREATEST: Final = "greatest"

metadata = MetaData()
