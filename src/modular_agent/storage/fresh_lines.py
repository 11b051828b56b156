"""Lines on their way from the writer to the mirror: what was just committed need not be read from the database."""

from collections import deque
from typing import Final, NamedTuple

__all__ = ["FreshLines", "Piece"]

LIMIT: Final = 16 * 1024 * 1024  # bytes that wait


class Piece(NamedTuple):
    """Lines that follow one another in the file of a session's month, from the byte `offset` on."""

    session_id: str
    month: int
    offset: int
    lines: int
    data: bytes


class FreshLines:
    """Hands the lines of each commit from one thread to another.

    It may lack some: those of a commit have the ids `first` to `last` of their records, so a gap shows, and what is
    missing is read from the rows.
    """

    def __init__(self) -> None:
        self._commits: deque[tuple[int, int, list[Piece]]] = deque()
        self._given = self._taken = 0  # bytes: each belongs to one of the threads

    def give(self, last: int, pieces: list[Piece]) -> None:
        """Puts in what one commit wrote, up to the record with the id `last`; more than LIMIT does not wait here."""
        if self._given - self._taken < LIMIT:
            self._given += sum(len(piece.data) for piece in pieces)
            self._commits.append((last - sum(piece.lines for piece in pieces) + 1, last, pieces))

    def take(self, after: int) -> tuple[list[Piece], int]:
        """Takes out all; answers the pieces that follow the record `after` without a gap, and the last of their ids."""
        found: list[Piece] = []
        while self._commits:
            first, last, pieces = self._commits.popleft()
            self._taken += sum(len(piece.data) for piece in pieces)
            if first == after + 1:
                found += pieces
                after = last
        return found, after
