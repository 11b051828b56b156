"""The tools of workflows, built from what these say, and the owner of everything that they run on."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from modular_agent.engine.tools.builtin.registry import build_builtin, builtin_faults
from modular_agent.engine.tools.builtin.tool import Setup
from modular_agent.engine.tools.call_log import CallLog
from modular_agent.engine.tools.config import McpConfig, ToolConfig
from modular_agent.engine.tools.errors import BadReference, McpUnavailable, SignatureUnsupported
from modular_agent.engine.tools.mcp import McpServers
from modular_agent.engine.tools.output import DEFAULT_LIMIT, LimitedTool, OutputLimit
from modular_agent.engine.tools.port import Effect, Tool
from modular_agent.engine.tools.python_tool import PythonCode, PythonFunction, PythonTool
from modular_agent.engine.tools.references import References
from modular_agent.engine.tools.workers import WorkerPool
from modular_agent.errors import Fault, InvalidInput, Text
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass

__all__ = ["ToolBox", "ToolLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimits:
    """`output_bytes` of one outcome; at most `workers` processes for synchronous code, `warm_workers` kept ready."""

    output_bytes: int = DEFAULT_LIMIT
    workers: int = 4
    warm_workers: int = 1


class ToolBox:
    """Builds tools and owns the worker processes and the connections to MCP servers.

    `root` is the configs root, `environ` where MCP servers get their variables from. Tools work while it is entered.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        environ: Mapping[str, str],
        allowed_modules: Sequence[str] = (),
        limits: ToolLimits | None = None,
    ) -> None:
        limits = limits or ToolLimits()
        self._root = root.resolve()
        self._clock = clock
        self._limit = OutputLimit(limits.output_bytes)
        self._references = References(self._root, allowed_modules=allowed_modules)
        self._pool = WorkerPool(
            self._root, allowed_modules=allowed_modules, maximum=limits.workers, warm=limits.warm_workers
        )
        self._log = CallLog()
        self._code = PythonCode(references=self._references, pool=self._pool, log=self._log)
        self._servers = McpServers(self._root, environ=environ)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "ToolBox":
        self._stack.callback(self._references.close)
        self._stack.enter_context(self._log)
        await self._stack.enter_async_context(self._servers)
        await self._stack.enter_async_context(self._pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def prepare(self) -> None:
        """Starts the workers that are kept for Python tools."""
        self._pool.prepare()

    @property
    def references(self) -> References:
        """For `type: graph` nodes: `load` gives the object itself."""
        return self._references

    @property
    def pool(self) -> WorkerPool:
        return self._pool

    def function(self, reference: str, *, timeout: float | None = None) -> PythonFunction:
        """The code of a `function` node. Whether it exists is `references.check`'s to say."""
        return PythonFunction(self._code, reference=reference, timeout=timeout)

    def check(self, config: ToolConfig, *, path: str = "") -> list[Fault]:
        """What is wrong with `config` at the key `path`, without importing or connecting anything. Blocks (files)."""
        given = [key for key in ("use", "ref", "mcp") if getattr(config, key) is not None]
        if len(given) != 1:
            text = Text(
                f"A tool has exactly one of use, ref and mcp; this one has {' and '.join(given) or 'none'}.",
                f"工具须恰好给出 use、ref、mcp 之一；此处给出了 {'、'.join(given) or '零个'}。",
            )
            return [Fault(code="tool_kind", text=text, path=path)]
        if config.use is not None:
            return builtin_faults(config.use, config.options, path=path)
        if config.ref is not None:
            return self._reference_faults(config.ref, path)
        assert config.mcp is not None
        return self._mcp_faults(config.mcp, f"{path}.mcp" if path else "mcp")

    async def build(self, configs: Sequence[ToolConfig]) -> dict[str, tuple[Tool, ...]]:
        """The tools of a workflow by the name of their entry: one, or for an MCP server all that it includes.

        MCP servers are connected to, Python modules imported in a worker. Raises `InvalidInput` with every fault, its
        paths `tools.NAME...`; also when two tools have the same name for the model.
        """
        results = await asyncio.gather(*(self._build_one(config) for config in configs))
        faults = [fault for result in results if isinstance(result, list) for fault in result]
        built = {
            config.name: result for config, result in zip(configs, results, strict=True) if isinstance(result, tuple)
        }
        faults += _name_faults(built)
        if faults:
            raise InvalidInput(faults)
        return built

    async def _build_one(self, config: ToolConfig) -> tuple[Tool, ...] | list[Fault]:
        path = f"tools.{config.name}"
        faults = await asyncio.to_thread(self.check, config, path=path)
        if faults:
            return faults
        try:
            return tuple(LimitedTool(tool, self._limit) for tool in await self._make(config, path))
        except BadReference as error:
            return [error.fault(f"{path}.ref")]
        except (SignatureUnsupported, McpUnavailable) as error:
            return [Fault(code=error.code, text=error.text, path=path)]

    async def _make(self, config: ToolConfig, path: str) -> Sequence[Tool]:
        if config.use is not None:
            setup = Setup(
                name=config.name,
                root=self._root,
                clock=self._clock,
                timeout=config.timeout,
                description=config.description,
                effect=config.effect or Effect.READ,
            )
            return [build_builtin(config.use, config.options, setup, path=path)]
        if config.ref is not None:
            tool = await PythonTool.load(
                self._code,
                name=config.name,
                reference=config.ref,
                description=config.description,
                effect=config.effect or Effect.IRREVERSIBLE,
                timeout=config.timeout,
            )
            return [tool]
        assert config.mcp is not None
        return await self._servers.tools(config.name, config.mcp, effect=config.effect, timeout=config.timeout)

    def _reference_faults(self, reference: str, path: str) -> list[Fault]:
        try:
            self._references.check(reference)
        except BadReference as error:
            return [error.fault(f"{path}.ref" if path else "ref")]
        return []

    def _mcp_faults(self, config: McpConfig, path: str) -> list[Fault]:
        faults: list[Fault] = []
        if (config.command is None) == (config.url is None):
            text = Text(
                "An MCP server has a command or a url, not both.", "MCP 服务器须有 command 或 url，且只有其一。"
            )
            faults.append(Fault(code="mcp_kind", text=text, path=path))
        if config.url is not None and not config.url.startswith(("http://", "https://")):
            text = Text("The url begins with http:// or https://.", "url 须以 http:// 或 https:// 开头。")
            faults.append(Fault(code="mcp_url", text=text, path=f"{path}.url"))
        if config.cwd is not None:
            folder = (self._root / config.cwd).resolve()
            if not folder.is_relative_to(self._root) or not folder.is_dir():
                text = Text(
                    f"There is no folder {config.cwd!r} below the configs root.",
                    f"配置根目录下没有文件夹 {config.cwd!r}。",
                )
                faults.append(Fault(code="mcp_cwd", text=text, path=f"{path}.cwd"))
        return faults


def _name_faults(built: Mapping[str, Sequence[Tool]]) -> list[Fault]:
    owners: dict[str, str] = {}
    faults: list[Fault] = []
    for entry, tools in built.items():
        for tool in tools:
            other = owners.setdefault(tool.schema.name, entry)
            if other != entry or sum(each.schema.name == tool.schema.name for each in tools) > 1:
                name = tool.schema.name
                text = Text(
                    f"The name {name!r} is taken by {other!r}; give the MCP server a prefix.",
                    f"名称 {name!r} 已被 {other!r} 使用；请为 MCP 服务器设置前缀。",
                )
                faults.append(Fault(code="tool_name_taken", text=text, path=f"tools.{entry}"))
    return faults
