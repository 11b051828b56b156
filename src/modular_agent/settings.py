"""The settings of a process, read once from its environment and from `.env`; data only.

Every field's `validation_alias` is the variable's name and its `description` what docs/settings.md says of it: a test
keeps the two equal. Only the command line, the server and the runtime import this module; everybody else gets the
values they need by constructor.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modular_agent import __version__
from modular_agent.errors import AgentError, Kind, Language
from modular_agent.kit.late_model import LateModel

__all__ = [
    "DEFAULT_SECRET_KEY",
    "AppSettings",
    "CacheSettings",
    "HttpSettings",
    "InvalidSettings",
    "LogSettings",
    "RunSettings",
    "Settings",
    "StorageSettings",
    "UnsafeBind",
    "WebSocketSettings",
    "check_bind",
    "check_production",
    "environment",
    "is_loopback",
    "load_settings",
]

DEFAULT_SECRET_KEY: Final = "development-only-not-secret"
MINIMUM_SECRET_LENGTH: Final = 32
MIB: Final = 1024 * 1024


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _split_origins(value: object) -> object:
    """As `_split`; a browser's Origin never ends with a slash, people's settings do."""
    return _split(value.replace("/,", ",").removesuffix("/")) if isinstance(value, str) else value


def _none(value: object) -> object:
    return None if isinstance(value, str) and value.lower() == "none" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_split_origins)]
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


class _Group(BaseSettings):
    """What the groups have in common: frozen, and deaf to variables of other programs."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, enable_decoding=False, hide_input_in_errors=True
    )


class AppSettings(_Group):
    """What the server is and how it is run."""

    name: str = Field(
        "Modular Agent", validation_alias="APP_NAME", description="The name shown in `/info` and `/docs`."
    )
    version: str = Field(__version__, validation_alias="APP_VERSION", description="The version shown there.")
    debug: bool = Field(
        False,
        validation_alias="DEBUG",
        description="Shows stack traces in error answers. Refused in production.",
    )
    environment: Literal["development", "production"] = Field(
        "development",
        validation_alias="ENVIRONMENT",
        description="`development` watches the configs root and reloads; `production` checks these settings strictly.",
    )
    secret_key: SecretStr = Field(
        SecretStr(DEFAULT_SECRET_KEY),
        validation_alias="SECRET_KEY",
        description="Signs short-lived tokens. At least 32 characters of your own in production.",
    )

    @property
    def is_production(self) -> bool:
        """Whether ENVIRONMENT is `production`."""
        return self.environment == "production"


class HttpSettings(_Group):
    """The edge: where the server listens and what it lets in."""

    host: str = Field(
        "127.0.0.1",
        validation_alias="HOST",
        description="The address to listen on. Any but a loopback address needs `--insecure`.",
    )
    port: int = Field(
        8000, ge=0, le=65535, validation_alias="PORT", description="The port to listen on; 0 takes a free one."
    )
    allowed_hosts: Names = Field(
        (),
        validation_alias="ALLOWED_HOSTS",
        description=(
            "Names, separated by commas, under which clients may call the server besides loopback names and HOST. "
            "`*` allows any."
        ),
    )
    cors_origins: Origins = Field(
        (),
        validation_alias="CORS_ORIGINS",
        description="Origins (`https://app.example.org`), separated by commas, whose pages may read answers; `*`: any.",
    )
    cors_credentials: bool = Field(
        False,
        validation_alias="CORS_CREDENTIALS",
        description="Lets those pages send cookies and credentials. Not with `*` in production.",
    )
    max_body_bytes: int = Field(
        10 * MIB,
        ge=1024,
        validation_alias="MAX_BODY_BYTES",
        description="The largest request body, in bytes (413 beyond).",
    )
    max_json_depth: int = Field(
        64, ge=8, le=512, validation_alias="MAX_JSON_DEPTH", description="How deep JSON bodies may nest (422 beyond)."
    )
    rate_limit_per_minute: int = Field(
        1200,
        ge=0,
        validation_alias="RATE_LIMIT_PER_MINUTE",
        description="Requests per minute from one address (429 beyond); loopback is exempt; 0 sets no limit.",
    )
    rate_limit_burst: int = Field(
        120, ge=1, validation_alias="RATE_LIMIT_BURST", description="How many of those may come at once."
    )
    shutdown_grace: float = Field(
        20,
        ge=0,
        validation_alias="SHUTDOWN_GRACE_SECONDS",
        description="How long, in seconds, a stopping server waits for steps in progress before it interrupts them.",
    )

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


class StorageSettings(_Group):
    """Where the data and the configuration are."""

    data_path: Path = Field(Path("data"), validation_alias="DATA_PATH", description="The directory of all data.")
    config_path: Path = Field(
        Path("configs"),
        validation_alias="CONFIG_PATH",
        description="The configs root: workflows, agents, prompts, tools.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="`sqlite+aiosqlite:///path`. Without it, `modular_agent.db` below DATA_PATH.",
    )
    readers: int = Field(
        3, ge=1, le=16, validation_alias="DATABASE_READERS", description="Reading connections of the SQLite database."
    )
    keep_checkpoints: int = Field(
        10,
        ge=1,
        validation_alias="KEEP_CHECKPOINTS",
        description="Newest checkpoints kept of a session whose run has ended; saved and forked ones always stay.",
    )
    allowed_modules: Names = Field(
        (),
        validation_alias="ALLOWED_MODULES",
        description="Modules, by commas, that workflow files may name besides `tools/*.py` below CONFIG_PATH.",
    )

    @property
    def files(self) -> Path:
        """The folder below which each session keeps large tool results."""
        return self.data_path / "files"

    @property
    def url(self) -> str:
        """The database's URL; may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{(self.data_path / 'modular_agent.db').as_posix()}"


class CacheSettings(_Group):
    """The cache in front of hot reads."""

    ttl: float = Field(
        300, ge=0, validation_alias="CACHE_TTL", description="How long, in seconds, an answer is kept; 0 turns it off."
    )
    max_size: int = Field(1000, ge=0, validation_alias="CACHE_MAX_SIZE", description="How many answers are kept.")


class LogSettings(_Group):
    """What the process says of itself, and where."""

    level: Level = Field(
        "INFO", validation_alias="LOG_LEVEL", description="`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`."
    )
    file: Annotated[Path | None, BeforeValidator(_none)] = Field(
        Path("logs/api.log"),
        validation_alias="LOG_FILE",
        description="The log file, JSON lines; `none` writes no file.",
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        validation_alias="LOG_FORMAT",
        description="Of standard error: `console` for people, `json` for machines, `auto` is `console` in a terminal.",
    )
    max_bytes: int = Field(
        20 * MIB,
        ge=64 * 1024,
        validation_alias="LOG_MAX_BYTES",
        description="The size, in bytes, at which the log file rotates.",
    )
    backups: int = Field(
        5, ge=1, le=100, validation_alias="LOG_BACKUPS", description="How many rotated log files are kept."
    )


class RunSettings(_Group):
    """The limits of runs in this process."""

    max_parallel: int = Field(
        64, ge=1, validation_alias="MAX_PARALLEL_RUNS", description="Runs that execute at the same time."
    )
    max_queued: int = Field(
        1000,
        ge=0,
        validation_alias="MAX_QUEUED_RUNS",
        description="Runs that wait for a place (503 with `Retry-After` beyond).",
    )
    max_state_bytes: int = Field(
        16 * MIB, ge=1024, validation_alias="MAX_STATE_BYTES", description="The largest state of a session, in bytes."
    )
    max_tool_output_bytes: int = Field(
        64 * 1024,
        ge=1024,
        validation_alias="MAX_TOOL_OUTPUT_BYTES",
        description="The largest tool output kept in the state, in bytes; a larger one goes to a file.",
    )
    stop_grace: float = Field(
        5,
        ge=0,
        validation_alias="STOP_GRACE_SECONDS",
        description="How long, in seconds, a cancelled step may clean up before its worker process is killed.",
    )
    tool_processes: int = Field(
        4, ge=1, validation_alias="TOOL_PROCESSES", description="Worker processes in which synchronous tools run."
    )
    unpriced_usd_per_mtok: float = Field(
        10.0,
        ge=0,
        le=1_000_000,
        validation_alias="UNPRICED_USD_PER_MTOK",
        description=(
            "At how many US dollars per million tokens limits of money count a model without a known price; "
            "0 counts it as free."
        ),
    )
    allow_private_addresses: bool = Field(
        False,
        validation_alias="ALLOW_PRIVATE_ADDRESSES",
        description="Lets built-in tools call private and loopback network addresses.",
    )


class WebSocketSettings(_Group):
    """The limits of each WebSocket connection."""

    max_connections: int = Field(
        1000, ge=1, validation_alias="WS_MAX_CONNECTIONS", description="WebSocket connections at the same time."
    )
    max_message_bytes: int = Field(
        MIB,
        ge=1024,
        validation_alias="WS_MAX_MESSAGE_BYTES",
        description="The largest message of a client, in bytes (1009 beyond).",
    )
    messages_per_second: float = Field(
        50,
        gt=0,
        validation_alias="WS_MESSAGES_PER_SECOND",
        description="Messages per second that a connection may send.",
    )
    ping_interval: float = Field(
        20, gt=0, validation_alias="WS_PING_SECONDS", description="Seconds between pings of an idle connection."
    )
    compression: bool = Field(
        default=False,
        validation_alias="WS_COMPRESSION",
        description="Compress what WebSocket clients are sent, for slow networks: costs as much CPU time again.",
    )
    metrics_interval: float = Field(
        5, gt=0, validation_alias="WS_METRICS_SECONDS", description="Seconds between two `performance_metrics` events."
    )


class Settings(LateModel):
    """All settings of the process, by group."""

    model_config = ConfigDict(frozen=True)

    app: AppSettings
    http: HttpSettings
    storage: StorageSettings
    cache: CacheSettings
    log: LogSettings
    runs: RunSettings
    websocket: WebSocketSettings


class InvalidSettings(AgentError):
    """Variables whose values cannot be used. `problems` holds (variable, English, Chinese); no value is ever named."""

    code = "invalid_settings"
    kind = Kind.INVALID
    english = "These settings cannot be used:"
    chinese = "以下设置无法使用："

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        super().__init__()
        self.problems = tuple(problems)

    def message(self, language: Language = "en") -> str:
        rows = (f"  {name}: {chinese if language == 'zh' else english}" for name, english, chinese in self.problems)
        return "\n".join([super().message(language), *rows])

    def __str__(self) -> str:
        return f"{self.message('en')}\n{self.message('zh')}"


class UnsafeBind(AgentError):
    """A host that other machines reach, without access control."""

    code = "unsafe_bind"
    kind = Kind.FORBIDDEN
    english = (
        "HOST={host} can be reached from other machines and this server has no login: set HOST=127.0.0.1, or pass "
        "--insecure if something in front of it controls access."
    )
    chinese = (
        "HOST={host} 可被其他机器访问，而本服务器没有登录保护：请设置 HOST=127.0.0.1；"
        "若前面已有访问控制，请加 --insecure。"
    )


def load_settings(
    overrides: Mapping[str, str | None] | None = None, *, env_file: Path | str | None = ".env"
) -> Settings:
    """The settings of the environment, over those of `env_file`; `overrides` (by variable, None is skipped) win.

    Raises `InvalidSettings` that names every variable with an unusable value.
    """
    given: dict[str, Any] = {name: value for name, value in (overrides or {}).items() if value is not None}
    environment(env_file)  # so that a file that cannot be read is told as such
    problems: list[tuple[str, str, str]] = []
    groups: dict[str, _Group] = {}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type)
        assert issubclass(group, _Group)
        try:
            groups[name] = group(**{"_env_file": env_file, **given})
        except ValidationError as error:
            problems += [
                _problem(str(item["loc"][0]), item) for item in error.errors(include_url=False, include_input=False)
            ]
    if problems:
        raise InvalidSettings(problems)
    return Settings.model_validate(groups)


def environment(env_file: Path | str | None = ".env") -> dict[str, str]:
    """The variables of the process over those of `env_file`: where the keys of model providers are looked up.

    Raises `InvalidSettings` when the file cannot be read.
    """
    try:
        from_file = dotenv_values(env_file) if env_file is not None and Path(env_file).is_file() else {}
    except (OSError, UnicodeDecodeError):
        raise InvalidSettings(
            [(str(env_file), "must be a readable file of UTF-8 text", "必须是可读的 UTF-8 文本文件")]
        ) from None
    return {**{name: value for name, value in from_file.items() if value is not None}, **os.environ}


_BOUNDS: Final = {
    "greater_than_equal": ("ge", "must be at least {}", "不得小于 {}"),
    "greater_than": ("gt", "must be greater than {}", "必须大于 {}"),
    "less_than_equal": ("le", "must be at most {}", "不得大于 {}"),
    "literal_error": ("expected", "must be one of {}", "必须是 {} 之一"),
}
_TYPES: Final = {
    "int": ("must be a whole number", "必须是整数"),
    "float": ("must be a number", "必须是数字"),
    "bool": ("must be true or false", "必须是 true 或 false"),
}


def _problem(variable: str, item: Mapping[str, Any]) -> tuple[str, str, str]:
    """What is wrong with `variable`, from a pydantic error (a mapping whose `ctx` holds the bound)."""
    kind = str(item["type"])
    if kind in _BOUNDS:
        key, english, chinese = _BOUNDS[kind]
        bound = item["ctx"][key]
        text = f"{bound:g}" if isinstance(bound, float) else str(bound).replace("'", "")
        return variable, english.format(text), chinese.format(text.replace(" or ", "、").replace(", ", "、"))
    english, chinese = _TYPES.get(kind.split("_", maxsplit=1)[0], ("cannot be used", "无法使用"))
    return variable, english, chinese


def check_production(settings: Settings) -> None:
    """Raises `InvalidSettings` when ENVIRONMENT is `production` and a setting is not fit for it."""
    if not settings.app.is_production:
        return
    problems: list[tuple[str, str, str]] = []
    secret = settings.app.secret_key.get_secret_value()
    if secret == DEFAULT_SECRET_KEY or len(secret) < MINIMUM_SECRET_LENGTH:
        problems.append(
            (
                "SECRET_KEY",
                "set a random value of at least 32 characters, such as that of `openssl rand -hex 32`",
                "请设置至少 32 个字符的随机值，例如 `openssl rand -hex 32` 的输出",
            )
        )
    if settings.app.debug:
        problems.append(
            (
                "DEBUG",
                "set DEBUG=false: it shows stack traces to clients",
                "请设置 DEBUG=false：它会向客户端显示堆栈信息",
            )
        )
    if "*" in settings.http.cors_origins and settings.http.cors_credentials:
        problems.append(
            (
                "CORS_ORIGINS",
                "list the origins instead of `*`, or set CORS_CREDENTIALS=false",
                "请列出具体来源而不是 `*`，或设置 CORS_CREDENTIALS=false",
            )
        )
    if problems:
        raise InvalidSettings(problems)


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` is reached from its own machine only; of names, only `localhost` is."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # where another name points to may change after this check


def check_bind(host: str, *, insecure: bool) -> None:
    """Raises `UnsafeBind` when `host` is not a loopback address and `insecure` was not asked for."""
    if not insecure and not is_loopback(host):
        raise UnsafeBind(host=host)
