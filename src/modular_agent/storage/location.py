"""Where the database and its files are."""

from pathlib import Path
from typing import Final

from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.errors import DatabaseUnsupported

__all__ = ["DATABASE_NAME", "Location"]

DATABASE_NAME: Final = "modular_agent.db"
_SCHEMES: Final = ("sqlite+aiosqlite:///", "sqlite:///")


@dataclass(frozen=True, slots=True)
class Location:
    """The data path and the database file, which may lie elsewhere."""

    data_path: Path
    database: Path

    @classmethod
    def of(cls, data_path: Path, *, url: str | None = None) -> "Location":
        """The places for a data path, and a database URL when there is one.

        `sqlite+aiosqlite:///relative.db`, `sqlite:////absolute.db`: a relative path starts at the working directory.
        Raises `DatabaseUnsupported` for every other URL, an in-memory database included.
        """
        if not url:
            return cls(data_path, data_path / DATABASE_NAME)
        for scheme in _SCHEMES:
            if url.startswith(scheme):
                name = url[len(scheme) :].partition("?")[0]
                if name and name != ":memory:":
                    return cls(data_path, Path(name))
                raise DatabaseUnsupported(scheme="sqlite in-memory")
        raise DatabaseUnsupported(scheme=url.partition(":")[0])

    @property
    def history(self) -> Path:
        """The folder of the log files: `YYYYMM/{session_id}.jsonl`."""
        return self.data_path / "history"

    @property
    def index(self) -> Path:
        """The folder of the search index, which can be made anew from the records."""
        return self.data_path / "index"
