"""Pages of lists: by number or by cursor, and the one envelope every list answers with."""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, Generic, Literal, TypeAlias, TypeVar, cast

import orjson

from modular_agent.kit.dataclass import dataclass

__all__ = ["CursorValue", "InvalidCursor", "Page", "PageRequest", "decode_cursor", "encode_cursor"]

T = TypeVar("T")
CursorValue: TypeAlias = "str | int | float | None"

DEFAULT_PAGE_SIZE: Final = 20
MAX_CURSOR_LENGTH: Final = 1024
INTEGERS: Final = 2**63  # what a database holds is less, and not less than its negative


class InvalidCursor(ValueError):
    """A cursor that this list did not give out; carries nothing of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which part of a list is asked for.

    `page` counts from 1; `cursor`, when given, wins over `page` and is what a former answer called `cursor`.
    """

    page: int = 1
    page_size: int = DEFAULT_PAGE_SIZE
    cursor: str | None = None

    def __post_init__(self) -> None:
        if self.page < 1 or self.page_size < 1:
            raise ValueError("page and page_size count from 1")

    @property
    def offset(self) -> int:
        """How many items come before the page."""
        return (self.page - 1) * self.page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list. `total` is None where counting would cost more than the answer (searches)."""

    items: Sequence[T]
    total: int | None
    page: int
    page_size: int
    has_next: bool
    cursor: str | None = None

    @classmethod
    def cut(
        cls, rows: Sequence[T], request: PageRequest, *, total: int | None = None, cursor: str | None = None
    ) -> "Page[T]":
        """The page made of `rows`, of which `page_size + 1` were read to learn whether there is a next one.

        `cursor` continues after the last item that is kept; it is dropped when there is no next page.
        """
        has_next = len(rows) > request.page_size
        return cls(
            items=rows[: request.page_size],
            total=total,
            page=request.page,
            page_size=request.page_size,
            has_next=has_next,
            cursor=cursor if has_next else None,
        )

    def envelope(self, name: str) -> dict[str, object]:
        """The answer, `{<name>: items, total, page, page_size, has_next, cursor}`, with the items as they are."""
        return {
            name: self.items,
            "total": self.total,
            "page": self.page,
            "page_size": self.page_size,
            "has_next": self.has_next,
            "cursor": self.cursor,
        }


def encode_cursor(listing: str, values: Sequence[CursorValue]) -> str:
    """An opaque position in `listing` (its name and order, such as `sessions:created_at:desc`): the last item's keys.

    It is not signed: it says where to go on, never what may be seen.
    """
    return base64.urlsafe_b64encode(orjson.dumps([listing, *values])).rstrip(b"=").decode()


def decode_cursor(
    cursor: str, listing: str, shape: Sequence[Literal["str", "int", "float", "str?", "int?", "float?"]]
) -> list[CursorValue]:
    """The values that `encode_cursor` was given for `listing`; `shape` says what each must be (`?`: or None).

    Raises `InvalidCursor` for a cursor that was mangled, or made for another listing or another order.
    """
    if len(cursor) > MAX_CURSOR_LENGTH:
        raise InvalidCursor("the cursor is too long")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content: object = orjson.loads(raw)
    except (binascii.Error, ValueError):
        raise InvalidCursor("the cursor is damaged") from None
    if not isinstance(content, list):
        raise InvalidCursor("the cursor is damaged")
    name, *values = cast(list[CursorValue], content) or [None]
    if name != listing or len(values) != len(shape):
        raise InvalidCursor("the cursor belongs to another list or order")
    if not all(_fits(value, kind) for value, kind in zip(values, shape, strict=True)):
        raise InvalidCursor("the cursor is damaged")
    return values


def _fits(value: CursorValue, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    if isinstance(value, int) and not -INTEGERS <= value < INTEGERS:
        return False
    wanted = kind.rstrip("?")
    return type(value).__name__ == wanted or (wanted == "float" and type(value) is int)
