import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import pytest_asyncio

from modular_agent.engine.tools.config import McpConfig
from modular_agent.engine.tools.errors import McpUnavailable
from modular_agent.engine.tools.mcp import McpServers, McpTool
from modular_agent.engine.tools.port import Effect, ToolContext

SERVERS = Path(__file__).parents[2] / "servers"
STDIO = McpConfig(command=(sys.executable, str(SERVERS / "mcp_stdio.py")), env=("TICKET_TOKEN",))


# One loop and one server for the module: a start takes most of a second.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("configs")
    (root / "docs").mkdir()
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(shared_root: Path) -> AsyncIterator[McpServers]:
    async with McpServers(shared_root, environ={"TICKET_TOKEN": "t0ken", "OTHER": "x"}, connect_timeout=20) as servers:
        yield servers


async def tools_of(servers: McpServers, config: McpConfig = STDIO, **options: Any) -> dict[str, McpTool]:
    return {tool.schema.name: tool for tool in await servers.tools("small", config, **options)}


async def info(tools: dict[str, McpTool], context: ToolContext) -> dict[str, Any]:
    return orjson.loads((await tools["info"].call({}, context)).content)


async def appears(path: Path, text: str) -> None:
    async with asyncio.timeout(10):
        while not path.exists() or path.read_text() != text:
            await asyncio.sleep(0.01)


async def test_a_stdio_servers_tools_are_listed_and_called(servers: McpServers, context: ToolContext) -> None:
    tools = await tools_of(servers)
    assert tools["add"].schema.description == "Adds two numbers."
    assert tools["add"].schema.parameters["required"] == ["a", "b"]
    outcome = await tools["add"].call({"a": 17, "b": 23}, context)
    assert (outcome.content, outcome.success) == ("40", True)


async def test_annotations_become_effects_unless_the_workflow_says(servers: McpServers) -> None:
    tools = await tools_of(servers)
    assert tools["add"].effect is Effect.READ
    assert tools["info"].effect is Effect.IDEMPOTENT
    assert tools["fail"].effect is Effect.IRREVERSIBLE
    assert (await tools_of(servers, effect=Effect.READ))["fail"].effect is Effect.READ


async def test_include_and_prefix(servers: McpServers) -> None:
    config = McpConfig(command=STDIO.command, env=STDIO.env, include=("add", "info"), prefix="docs.")
    assert sorted(await tools_of(servers, config)) == ["docs_add", "docs_info"]
    with pytest.raises(McpUnavailable, match="no tool nothing"):
        await tools_of(servers, McpConfig(command=STDIO.command, env=STDIO.env, include=("nothing",)))


async def test_only_the_named_variables_and_the_folder_reach_the_server(
    servers: McpServers, context: ToolContext
) -> None:
    tools = await tools_of(servers, McpConfig(command=STDIO.command, env=STDIO.env, cwd="docs"))
    told = await info(tools, context)
    assert (told["token"], told["other"], told["cwd"]) == ("t0ken", None, "docs")


async def test_one_server_is_shared(servers: McpServers, context: ToolContext) -> None:
    first, second = await asyncio.gather(tools_of(servers), tools_of(servers))
    assert (await info(first, context))["pid"] == (await info(second, context))["pid"]


async def test_a_tool_that_fails_is_an_outcome(servers: McpServers, context: ToolContext) -> None:
    outcome = await (await tools_of(servers))["fail"].call({"reason": "no such ticket"}, context)
    assert not outcome.success
    assert outcome.error_type == "McpToolError"
    assert outcome.content


async def test_wrong_arguments_do_not_reach_the_server(servers: McpServers, context: ToolContext) -> None:
    outcome = await (await tools_of(servers))["add"].call({"a": "x"}, context)
    assert outcome.error_type == "InvalidArguments"
    assert "'b' is a required property" in outcome.content


async def test_bytes_go_to_a_file(servers: McpServers, context: ToolContext) -> None:
    outcome = await (await tools_of(servers))["picture"].call({}, context)
    assert outcome.content == "[image/png, 8 bytes, in the file call_1-1.png]"
    assert (context.files / "call_1-1.png").read_bytes() == b"\x89PNG\r\n\x1a\n"


async def test_the_idempotency_key_is_sent(servers: McpServers, context: ToolContext) -> None:
    assert (await (await tools_of(servers))["key"].call({}, context)).content == "key_1"


async def test_what_the_server_says_of_a_call_is_logged(
    servers: McpServers, context: ToolContext, logged: list[tuple[str, str]]
) -> None:
    tools = await tools_of(servers)
    async with asyncio.timeout(5):
        while ("info", "adding 1 and 2") not in logged:
            await tools["add"].call({"a": 1, "b": 2}, context)


async def test_a_timeout_is_an_outcome_and_the_server_is_told(
    servers: McpServers, context: ToolContext, tmp_path: Path
) -> None:
    tools = await tools_of(servers, timeout=1.0)
    marker = tmp_path / "marker"
    outcome = await tools["wait"].call({"marker": str(marker)}, context)
    assert outcome.error_type == "TimeoutError"
    await appears(marker, "cancelled")
    assert (await tools["add"].call({"a": 1, "b": 1}, context)).content == "2"


async def test_cancelling_a_call_tells_the_server(servers: McpServers, context: ToolContext, tmp_path: Path) -> None:
    tools = await tools_of(servers)
    marker = tmp_path / "marker"
    task = asyncio.create_task(tools["wait"].call({"marker": str(marker)}, context))
    await appears(marker, "started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await appears(marker, "cancelled")
    assert (await tools["add"].call({"a": 1, "b": 1}, context)).content == "2"


async def test_a_server_that_died_is_started_again(servers: McpServers, context: ToolContext) -> None:
    tools = await tools_of(servers)
    pid = (await info(tools, context))["pid"]
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while (outcome := await tools["add"].call({"a": 1, "b": 1}, context)).content != "2":
            assert outcome.error_type == "ConnectionLost"
    assert (await info(tools, context))["pid"] != pid


async def test_an_irreversible_call_that_lost_its_server_is_not_repeated(
    servers: McpServers, context: ToolContext
) -> None:
    tools = await tools_of(servers)
    outcome = await tools["die"].call({"code": 1}, context)
    assert (outcome.success, outcome.error_type) == (False, "ConnectionLost")
    assert (await tools["add"].call({"a": 1, "b": 1}, context)).content == "2"


async def test_a_reading_call_that_lost_its_server_is_repeated_once(
    servers: McpServers, context: ToolContext, tmp_path: Path
) -> None:
    tools = await tools_of(servers)
    outcome = await tools["die_once"].call({"marker": str(tmp_path / "marker")}, context)
    assert (outcome.content, outcome.success) == ("second life", True)


async def test_closing_ends_the_server(configs: Path, context: ToolContext) -> None:
    async with McpServers(configs, environ={"TICKET_TOKEN": "t"}) as servers:
        tools = await tools_of(servers)
        pid = (await info(tools, context))["pid"]
    assert not psutil.pid_exists(pid)
    outcome = await tools["add"].call({"a": 1, "b": 1}, context)
    assert outcome.error_type == "mcp_unavailable"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (McpConfig(command=("no-such-command-here",)), "not found"),
        (McpConfig(command=STDIO.command, env=("MISSING_ONE",)), "MISSING_ONE is not set"),
        (McpConfig(command=STDIO.command, cwd="../.."), "below the configs root"),
        (McpConfig(command=(sys.executable, "-c", "pass")), ""),
        (McpConfig(url="http://127.0.0.1:9/mcp"), ""),
        (McpConfig(url="http://127.0.0.1:9/mcp", headers={"Authorization": "MISSING_TWO"}), "MISSING_TWO is not set"),
    ],
)
async def test_a_server_that_is_not_there_says_why(servers: McpServers, config: McpConfig, reason: str) -> None:
    with pytest.raises(McpUnavailable) as caught:
        await servers.tools("broken", config)
    assert reason in str(caught.value)
    assert "broken" in caught.value.message("zh")


async def test_a_server_that_does_not_answer_is_given_up(configs: Path) -> None:
    async with McpServers(configs, environ={}, connect_timeout=0.3) as servers:
        started = time.perf_counter()
        with pytest.raises(McpUnavailable, match="in time"):
            await servers.tools("mute", McpConfig(command=("sleep", "100")))
        assert time.perf_counter() - started < 6


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator[Callable[[int], tuple[subprocess.Popen[bytes], int]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int = 0) -> tuple[subprocess.Popen[bytes], int]:
        file = tmp_path / f"port{len(started)}"
        process = subprocess.Popen([sys.executable, str(SERVERS / "mcp_http.py"), str(file), str(port)])
        started.append(process)
        deadline = time.monotonic() + 20
        while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return process, int(file.read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_a_streamable_http_server_is_called_with_its_headers_and_found_again(
    servers: McpServers, context: ToolContext, http_server: Callable[[int], tuple[subprocess.Popen[bytes], int]]
) -> None:
    process, port = await asyncio.to_thread(http_server, 0)
    config = McpConfig(url=f"http://127.0.0.1:{port}/mcp", headers={"X-Ticket": "TICKET_TOKEN"})
    tools = await tools_of(servers, config)
    assert (await tools["add"].call({"a": 1, "b": 2}, context)).content == "3"
    assert (await tools["header"].call({"name": "x-ticket"}, context)).content == "t0ken"
    process.kill()
    process.wait()
    lost = await tools["add"].call({"a": 1, "b": 2}, context)
    assert not lost.success
    second, _ = await asyncio.to_thread(http_server, port)
    async with asyncio.timeout(10):
        while not (outcome := await tools["process"].call({}, context)).success:
            await asyncio.sleep(0.05)
    assert outcome.content == str(second.pid)
    assert (await tools["add"].call({"a": 1, "b": 2}, context)).content == "3"
