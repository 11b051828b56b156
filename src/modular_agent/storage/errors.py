"""What can go wrong between the product and its database.

AgentError
├── StaleEpoch             a run's write came after its epoch was raised
├── ConstraintViolated     a row contradicts another: a duplicate, a missing reference
├── SessionUnknown         no such session (any more)
├── SessionIdTaken         the proposed session id exists: propose another
├── RunUnknown / RunAlreadyActive / SessionBusy
├── RequestRepeated / IdempotencyKeyReused
├── InterruptClosed / InterruptUnknown
├── MessageUnknown / BookmarkUnknown
├── StorageBusy / StorageFull / DiskFailed / StorageFailed / StorageClosed
├── DatabaseUnsupported / DatabaseForeign / DatabaseTooNew
├── DataPathInUse          another process owns the data path
└── DataPathUnusable       nothing can be written there
"""

import sqlite3
from typing import Final

from modular_agent.errors import AgentError, Kind

__all__ = [
    "BookmarkUnknown",
    "ConstraintViolated",
    "DataPathInUse",
    "DataPathUnusable",
    "DatabaseForeign",
    "DatabaseTooNew",
    "DatabaseUnsupported",
    "DiskFailed",
    "IdempotencyKeyReused",
    "InterruptClosed",
    "InterruptUnknown",
    "MessageUnknown",
    "RequestRepeated",
    "RunAlreadyActive",
    "RunUnknown",
    "SessionBusy",
    "SessionIdTaken",
    "SessionUnknown",
    "StaleEpoch",
    "StorageBusy",
    "StorageClosed",
    "StorageFailed",
    "StorageFull",
    "storage_error",
]


class StaleEpoch(AgentError):
    """A write named an epoch that its run no longer has; nothing of the unit was kept."""

    code = "stale_epoch"
    kind = Kind.CONFLICT
    english = "Run {run_id} is no longer at epoch {epoch}: somebody else has taken it over."
    chinese = "运行 {run_id} 已不在纪元 {epoch}：它已被其他执行者接管。"

    def __init__(self, *, run_id: str, epoch: int) -> None:
        super().__init__(run_id=run_id, epoch=epoch)
        self.run_id = run_id
        self.epoch = epoch


class ConstraintViolated(AgentError):
    """A row of the unit contradicts another row. `constraint` is SQLite's name of the kind of constraint."""

    code = "constraint_violated"
    kind = Kind.CONFLICT
    english = "The change contradicts what is stored ({constraint})."
    chinese = "该更改与已存储的数据矛盾（{constraint}）。"

    def __init__(self, *, constraint: str) -> None:
        super().__init__(constraint=constraint)
        self.constraint = constraint


class SessionUnknown(AgentError):
    """There is no such session, or it is being deleted."""

    code = "session_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no session {session_id}."
    chinese = "会话 {session_id} 不存在。"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(session_id=session_id)


class SessionIdTaken(AgentError):
    """The proposed session id exists already."""

    code = "session_id_taken"
    kind = Kind.CONFLICT
    english = "The session id {session_id} is taken."
    chinese = "会话标识 {session_id} 已被占用。"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(session_id=session_id)


class SessionBusy(AgentError):
    """What was asked needs a session whose run has ended."""

    code = "session_busy"
    kind = Kind.CONFLICT
    english = "Session {session_id} has an active run ({run_id})."
    chinese = "会话 {session_id} 有正在进行的运行（{run_id}）。"

    def __init__(self, *, session_id: str, run_id: str) -> None:
        super().__init__(session_id=session_id, run_id=run_id)
        self.run_id = run_id


class SessionMoved(AgentError):
    """Somebody else changed the session's runs or state first."""

    code = "session_changed"
    kind = Kind.CONFLICT
    english = "Session {session_id} was changed by somebody else at the same time; look at it and ask again."
    chinese = "会话 {session_id} 同时被他人更改；请查看后重试。"

    def __init__(self, *, session_id: str) -> None:
        super().__init__(session_id=session_id)


class RunUnknown(AgentError):
    """There is no such run."""

    code = "run_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no run {run_id}."
    chinese = "运行 {run_id} 不存在。"

    def __init__(self, *, run_id: str) -> None:
        super().__init__(run_id=run_id)


class RunAlreadyActive(AgentError):
    """The session has an active run already; `run_id` and `status` are that one's."""

    code = "run_already_active"
    kind = Kind.CONFLICT
    english = "The session already has an active run: {run_id} is {status}."
    chinese = "该会话已有正在进行的运行：{run_id} 的状态为 {status}。"

    def __init__(self, *, run_id: str, status: str) -> None:
        super().__init__(run_id=run_id, status=status)
        self.run_id = run_id
        self.status = status


class RequestRepeated(AgentError):
    """A request with this `Idempotency-Key` was answered before; `subject` is the id of what it made."""

    code = "request_repeated"
    kind = Kind.CONFLICT
    english = "This request was answered before: it made {subject}."
    chinese = "该请求此前已处理：它创建了 {subject}。"

    def __init__(self, *, subject: str) -> None:
        super().__init__(subject=subject)
        self.subject = subject


class IdempotencyKeyReused(AgentError):
    """The `Idempotency-Key` belongs to a different request."""

    code = "idempotency_key_reused"
    kind = Kind.CONFLICT
    english = "The Idempotency-Key was used for a different request."
    chinese = "该 Idempotency-Key 已用于另一个不同的请求。"


class InterruptUnknown(AgentError):
    """There is no such question."""

    code = "interrupt_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no interrupt {interrupt_id}."
    chinese = "中断 {interrupt_id} 不存在。"

    def __init__(self, *, interrupt_id: str) -> None:
        super().__init__(interrupt_id=interrupt_id)


class InterruptClosed(AgentError):
    """The question was answered or withdrawn before."""

    code = "interrupt_closed"
    kind = Kind.CONFLICT
    english = "Interrupt {interrupt_id} is already {status}."
    chinese = "中断 {interrupt_id} 的状态已是 {status}。"

    def __init__(self, *, interrupt_id: str, status: str) -> None:
        super().__init__(interrupt_id=interrupt_id, status=status)
        self.status = status


class MessageUnknown(AgentError):
    """The session's log has no such message."""

    code = "message_not_found"
    kind = Kind.NOT_FOUND
    english = "Session {session_id} has no message {message_id}."
    chinese = "会话 {session_id} 中没有消息 {message_id}。"

    def __init__(self, *, session_id: str, message_id: str) -> None:
        super().__init__(session_id=session_id, message_id=message_id)


class BookmarkUnknown(AgentError):
    """There is no such bookmark."""

    code = "bookmark_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no bookmark {bookmark_id}."
    chinese = "书签 {bookmark_id} 不存在。"

    def __init__(self, *, bookmark_id: str) -> None:
        super().__init__(bookmark_id=bookmark_id)


class StorageBusy(AgentError):
    """More waits for the database than it takes on; try again."""

    code = "storage_busy"
    kind = Kind.UNAVAILABLE
    english = "The database has too much to do; try again in a moment."
    chinese = "数据库繁忙，请稍后重试。"

    def __init__(self) -> None:
        super().__init__(retry_after=1.0)


class StorageFull(AgentError):
    """The disk of the database is full; nothing of the transaction was kept."""

    code = "storage_full"
    kind = Kind.UNAVAILABLE
    english = "The disk that holds the database is full."
    chinese = "数据库所在的磁盘已满。"

    def __init__(self) -> None:
        super().__init__(retry_after=5.0)


class StorageFailed(AgentError):
    """The database could not be read or written; nothing of the transaction was kept. `reason` is SQLite's name."""

    code = "storage_error"
    kind = Kind.INTERNAL
    english = "The database failed ({reason})."
    chinese = "数据库出错（{reason}）。"

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason=reason)
        self.reason = reason


class DiskFailed(AgentError):
    """The disk of the database does not read or write; nothing of the transaction was kept. It may be over again.

    `reason` is SQLite's or the operating system's name.
    """

    code = "disk_failed"
    kind = Kind.UNAVAILABLE
    english = "The disk that holds the database does not read or write ({reason}). What was acknowledged is kept."
    chinese = "数据库所在的磁盘无法读写（{reason}）。已确认的数据不会丢失。"

    def __init__(self, *, reason: str) -> None:
        super().__init__(retry_after=5.0, reason=reason)
        self.reason = reason


class StorageClosed(AgentError):
    """The database is being closed and takes nothing more."""

    code = "storage_closed"
    kind = Kind.UNAVAILABLE
    english = "The database is closed."
    chinese = "数据库已关闭。"


class DatabaseUnsupported(AgentError):
    """The URL names a database that this version does not support."""

    code = "database_unsupported"
    kind = Kind.INVALID
    english = "This version does not support {scheme} databases yet; use sqlite+aiosqlite:///path/to/file.db."
    chinese = "此版本尚不支持 {scheme} 数据库；请使用 sqlite+aiosqlite:///path/to/file.db。"

    def __init__(self, *, scheme: str) -> None:
        super().__init__(scheme=scheme)


class DatabaseForeign(AgentError):
    """The file is no database of this product."""

    code = "database_foreign"
    kind = Kind.INVALID
    english = "The file {name} is not a Modular Agent database."
    chinese = "文件 {name} 不是 Modular Agent 数据库。"

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name)


class DatabaseTooNew(AgentError):
    """A newer version of the product has written this database."""

    code = "database_too_new"
    kind = Kind.INVALID
    english = "The database has schema {revision}, which this version does not know: install the version that made it."
    chinese = "数据库的结构版本为 {revision}，此版本无法识别：请安装创建它的版本。"

    def __init__(self, *, revision: str) -> None:
        super().__init__(revision=revision)
        self.revision = revision


class DataPathInUse(AgentError):
    """Another process owns the data path."""

    code = "data_path_in_use"
    kind = Kind.CONFLICT
    english = "The data path is in use by process {pid}."
    chinese = "数据目录正被进程 {pid} 使用。"

    def __init__(self, *, pid: str) -> None:
        super().__init__(pid=pid)
        self.pid = pid


class DataPathUnusable(AgentError):
    """The data path cannot be made, or nothing can be written there."""

    code = "data_path_unusable"
    kind = Kind.INVALID
    english = "Nothing can be written below the data path {path} ({reason}): set DATA_PATH to a folder that can be."
    chinese = "无法写入数据目录 {path}（{reason}）：请将 DATA_PATH 设为可写的文件夹。"

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)


_DISK_CODES: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
PRIMARY_CODE: Final = 0xFF  # extended result codes keep the primary one in their low byte


def storage_error(error: sqlite3.Error) -> AgentError:
    """The error to answer for one of SQLite's."""
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE
    name: str = getattr(error, "sqlite_errorname", type(error).__name__)
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull()
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageBusy()
    if primary in _DISK_CODES:
        return DiskFailed(reason=name)
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return ConstraintViolated(constraint=name)
    return StorageFailed(reason=name)
