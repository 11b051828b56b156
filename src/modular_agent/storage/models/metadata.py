"""The one `MetaData` of all tables, with names for every constraint so that migrations can refer to them."""

from typing import Final

from sqlalchemy import MetaData

__all__ = ["GREATEST", "KEPT", "LEAST", "metadata"]

KEPT: Final = "kept"  # in a column's `info`: replacing a row leaves the column as it is
LEAST: Final = "least"  # adding to a row keeps the lesser of both values
GREATEST: Final = "greatest"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
