"""SQL text that depends on the number of rows."""

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.models import metadata
from modular_agent.storage.sql import LARGE_ROWS, in_pieces

MAX_PARAMETERS = 32_766  # of a statement: https://www.sqlite.org/limits.html


@given(st.integers(min_value=0, max_value=2_000))
def test_pieces_are_all_rows_in_order_and_of_few_sizes(count: int) -> None:
    pieces = [*in_pieces(range(count))]
    assert [row for piece in pieces for row in piece] == [*range(count)]
    assert {len(piece) for piece in pieces} <= {*range(1, 17), *range(24, 65, 8), 128, 256, 512}


def test_sqlite_takes_the_largest_piece_of_every_table() -> None:
    assert max(LARGE_ROWS) * max(len(table.columns) for table in metadata.sorted_tables) <= MAX_PARAMETERS
