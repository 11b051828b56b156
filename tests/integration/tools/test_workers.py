import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modular_agent.engine.tools.errors import WorkerUnavailable
from modular_agent.engine.tools.port import ToolContext
from modular_agent.engine.tools.workers import WorkerCall, WorkerPool

SOURCE = """
import ctypes, logging, os, subprocess, sys, threading, time

calls = 0

def add(a: int, b: int = 2) -> int:
    return a + b

def count():
    global calls
    calls += 1
    return calls

def who():
    return [os.getpid(), os.getppid()]

def busy(marker: str):
    open(marker, "w").close()
    while True:
        pass

def hold_the_lock(marker: str):
    open(marker, "w").close()
    return len(str(pow(7, 10 ** 8)))

def ignore_everything(marker: str):
    import signal
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    open(marker, "w").close()
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass

def family(marker: str, tag: str):
    subprocess.Popen(["sleep", tag])
    subprocess.Popen(["setsid", "sleep", tag])
    subprocess.Popen(f"(setsid sleep {tag} &) ; (sleep {tag} &)", shell=True)
    time.sleep(0.2)
    open(marker, "w").close()
    while True:
        pass

def sleep(seconds: float, marker: str = ""):
    if marker:
        open(marker, "a").write("x")
    time.sleep(seconds)
    return "slept"

def talk():
    print("printed")
    print("half", end="")
    sys.stderr.write("complaint\\n")
    logging.getLogger("tickets").warning("logged %d", 5)
    logging.debug("not this")
    os.system("echo shell")
    time.sleep(0.05)

def chatter():
    for number in range(5_000):
        print(number)

def read_input():
    return sys.stdin.read()

def boom():
    raise ValueError("it is broken: \\u00e9")

def leave():
    sys.exit(4)

def die(code: int):
    os._exit(code)

def crash():
    ctypes.string_at(0)

def echo(value):
    return value

def double(text: str):
    return text * 2

def strange():
    return object()

def huge():
    return "x" * (70 * 1024 * 1024)

def told(context):
    context.log("info", "hello from " + context.tool_call_id)
    context.files.mkdir(exist_ok=True)
    (context.files / "out").write_text(context.idempotency_key)
    return {"session": context.session_id, "run": context.run_id}

def background():
    threading.Thread(target=lambda: (time.sleep(0.1), print("late")), daemon=True).start()

async def later(a: int):
    return a

def wrapped(a: int):
    return later(a)

def environment(name: str):
    return os.environ.get(name)
"""


@pytest.fixture
def root(configs: Path, write_tool: Callable[[str, str], Path]) -> Path:
    write_tool("work", SOURCE)
    return configs


@pytest.fixture
async def pool(root: Path) -> AsyncIterator[WorkerPool]:
    async with WorkerPool(root, maximum=2, warm=0, allowed_modules=["json"]) as pool:
        yield pool


def call(
    name: str, context: ToolContext | None = None, /, *, timeout: float | None = None, **arguments: object
) -> WorkerCall:
    log = context.log if context else lambda _level, _message: None
    return WorkerCall(reference=f"tools.work:{name}", arguments=arguments, context=context, log=log, timeout=timeout)


def processes(tag: str) -> list[int]:
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if tag in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def appears(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.005)


async def test_a_function_gets_and_gives_json(pool: WorkerPool) -> None:
    value = {"n": [1, 2.5, None, True, "é\u0000中"], "m": {"k": []}}
    reply = await pool.call(call("echo", value=value))
    assert reply.failure is None
    assert reply.value == value


async def test_a_worker_is_used_again(pool: WorkerPool) -> None:
    first = (await pool.call(call("who"))).value
    started = time.perf_counter()
    for _ in range(50):
        assert (await pool.call(call("who"))).value == first
    assert (time.perf_counter() - started) / 50 < 0.01


async def test_a_cold_first_call_takes_a_fraction_of_a_second(pool: WorkerPool) -> None:
    started = time.perf_counter()
    await pool.call(call("count"))
    assert time.perf_counter() - started < 2


def test_the_worker_imports_little() -> None:
    code = "import modular_agent.engine.tools.worker, sys; print(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"langgraph", "fastapi", "sqlalchemy", "pydantic", "aiohttp", "mcp", "asyncio", "psutil"} & set(listed)


async def test_arguments_of_a_tool_are_coerced_and_its_result_is_text(pool: WorkerPool) -> None:
    reply = await pool.call(WorkerCall(reference="tools.work:add", arguments={"a": "40"}, validated=True))
    assert reply.text == "42"
    reply = await pool.call(WorkerCall(reference="tools.work:add", arguments={"a": "x"}, validated=True))
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.stack_trace) == ("arguments", None)
    assert "- a: " in reply.failure.message


async def test_integers_beyond_64_bits_stay_exact(pool: WorkerPool) -> None:
    reply = await pool.call(WorkerCall(reference="tools.work:add", arguments={"a": 2**70}, validated=True))
    assert reply.text == str(2**70 + 2)


async def test_a_callable_is_described(pool: WorkerPool) -> None:
    description = (await pool.describe("tools.work:add")).description
    assert description is not None
    assert description["parameters"]["required"] == ["a"]
    assert description["is_async"] is False
    assert (await pool.inspect("tools.work:later")).description == {"is_async": True}


async def test_the_context_reaches_the_code(
    pool: WorkerPool, context: ToolContext, logged: list[tuple[str, str]]
) -> None:
    reply = await pool.call(call("told", context))
    assert reply.value == {"session": context.session_id, "run": context.run_id}
    assert (context.files / "out").read_text() == context.idempotency_key
    assert ("info", "hello from call_1") in logged


async def test_what_the_code_says_becomes_log(
    pool: WorkerPool, context: ToolContext, logged: list[tuple[str, str]]
) -> None:
    await pool.call(call("talk", context))
    for line in [
        ("info", "printed"),
        ("info", "half"),
        ("warning", "complaint"),
        ("warning", "logged 5"),
        ("info", "shell"),
    ]:
        assert line in logged
    assert not [message for _, message in logged if "not this" in message]


async def test_a_log_that_fails_does_not_hold_up_the_call(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    def log(level: str, message: str) -> None:
        raise RuntimeError("the log is closed")

    reply = await pool.call(WorkerCall(reference="tools.work:talk", log=log))
    assert reply.failure is None
    assert "could not be logged" in caplog.text


async def test_a_flood_of_log_is_cut(pool: WorkerPool, context: ToolContext, logged: list[tuple[str, str]]) -> None:
    await pool.call(call("chatter", context))
    assert len(logged) == 1_000
    assert logged[-1][0] == "warning"


async def test_what_a_thread_says_after_the_call_is_not_the_next_calls(
    pool: WorkerPool, context: ToolContext, logged: list[tuple[str, str]]
) -> None:
    await pool.call(call("background", context))
    await asyncio.sleep(0.2)
    reply = await pool.call(call("count", context))
    assert reply.value == 1
    assert ("info", "late") not in logged


async def test_standard_input_is_empty(pool: WorkerPool) -> None:
    assert (await pool.call(call("read_input"))).value == ""


async def test_an_exception_comes_with_the_authors_part_of_the_trace(pool: WorkerPool) -> None:
    failure = (await pool.call(call("boom"))).failure
    assert failure is not None
    assert (failure.kind, failure.error_type, failure.message) == ("exception", "ValueError", "it is broken: é")
    assert failure.stack_trace is not None
    assert "tools/work.py" in failure.stack_trace
    assert "engine/tools/worker.py" not in failure.stack_trace
    assert (await pool.call(call("count"))).value == 1


async def test_sys_exit_is_an_exception(pool: WorkerPool) -> None:
    before = (await pool.call(call("who"))).value
    failure = (await pool.call(call("leave"))).failure
    assert failure is not None
    assert failure.error_type == "SystemExit"
    assert (await pool.call(call("who"))).value == before


async def test_results_that_are_not_json_are_failures(pool: WorkerPool) -> None:
    for name in ("strange", "huge"):
        failure = (await pool.call(call(name))).failure
        assert failure is not None
        assert failure.error_type in ("NotJson", "FrameTooLarge")


async def test_arguments_that_are_not_json_are_a_failure_and_cost_no_worker(pool: WorkerPool) -> None:
    before = (await pool.call(call("who"))).value
    for value in (object(), "x" * (70 * 1024 * 1024)):
        failure = (await pool.call(call("echo", value=value))).failure
        assert failure is not None
        assert failure.kind == "arguments"
    assert (await pool.call(call("who"))).value == before


async def test_megabytes_go_both_ways(pool: WorkerPool) -> None:
    text = "0123456789" * 300_000
    assert (await pool.call(call("double", text=text))).value == text * 2


async def test_a_coroutine_that_only_the_call_shows_is_run(pool: WorkerPool) -> None:
    assert (await pool.call(call("wrapped", a=3))).value == 3


async def test_an_allowed_module_is_called(pool: WorkerPool) -> None:
    reply = await pool.call(WorkerCall(reference="json:loads", positional=["[1]"]))
    assert reply.value == [1]
    refused = (await pool.call(WorkerCall(reference="os:getcwd"))).failure
    assert refused is not None
    assert (refused.kind, refused.error_type) == ("reference", "reference_not_allowed")


async def test_an_edited_file_is_used_by_the_next_call(
    pool: WorkerPool, write_tool: Callable[[str, str], Path]
) -> None:
    write_tool("edited", "def f(): return 1\n")
    edited = WorkerCall(reference="tools.edited:f")
    assert (await pool.call(edited)).value == 1
    write_tool("edited", "def f(): return 2\n")
    assert (await pool.call(edited)).value == 2


async def test_the_environment_is_the_servers(pool: WorkerPool) -> None:
    assert (await pool.call(call("environment", name="PATH"))).value == os.environ["PATH"]


@pytest.mark.parametrize("name", ["busy", "hold_the_lock", "ignore_everything"])
async def test_cancelling_kills_code_that_does_not_want_to_end(pool: WorkerPool, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "started"
    task = asyncio.create_task(pool.call(call(name, marker=str(marker))))
    await appears(marker)
    (pid,) = pool.pids
    members = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    assert len(members) == 2
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 2
    assert not [member for member in members if psutil.pid_exists(member)]
    assert (await pool.call(call("count"))).value == 1


async def test_a_timeout_kills_and_is_told(pool: WorkerPool, tmp_path: Path) -> None:
    await pool.call(call("count"))
    (pid,) = pool.pids
    started = time.perf_counter()
    failure = (await pool.call(call("busy", marker=str(tmp_path / "m"), timeout=0.2))).failure
    assert failure is not None
    assert failure.kind == "timeout"
    assert "0.2 seconds" in failure.message
    assert time.perf_counter() - started < 2.2
    assert not psutil.pid_exists(pid)
    assert (await pool.call(call("count"))).value == 1


async def test_processes_that_the_code_started_die_with_it(pool: WorkerPool, tmp_path: Path) -> None:
    marker, tag = tmp_path / "started", f"86400.{os.getpid()}1"
    task = asyncio.create_task(pool.call(call("family", marker=str(marker), tag=tag)))
    await appears(marker)
    assert len(processes(tag)) == 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes(tag) == []


async def test_a_second_cancellation_does_not_let_go_early(pool: WorkerPool, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    task = asyncio.create_task(pool.call(call("busy", marker=str(marker))))
    await appears(marker)
    (pid,) = pool.pids
    runner = psutil.Process(pid).children()[0].pid
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not runs(runner)
    assert not runs(pid)


@pytest.mark.parametrize(
    ("name", "arguments", "ending"),
    [("die", {"code": 3}, "exit code 3"), ("die", {"code": 0}, "exit code 0"), ("crash", {}, "SIGSEGV")],
)
async def test_a_worker_that_dies_is_a_clear_outcome_and_the_pool_lives_on(
    pool: WorkerPool, name: str, arguments: dict[str, object], ending: str
) -> None:
    failure = (await pool.call(call(name, **arguments))).failure
    assert failure is not None
    assert failure.kind == "died"
    assert ending in failure.message
    assert (await pool.call(call("count"))).value == 1


async def test_a_worker_killed_from_outside_is_an_outcome(pool: WorkerPool, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    task = asyncio.create_task(pool.call(call("busy", marker=str(marker))))
    await appears(marker)
    os.kill(psutil.Process(pool.pids[0]).children()[0].pid, signal.SIGKILL)
    failure = (await task).failure
    assert failure is not None
    assert "SIGKILL" in failure.message


async def test_the_code_dies_when_its_guard_is_killed(pool: WorkerPool, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    task = asyncio.create_task(pool.call(call("hold_the_lock", marker=str(marker))))
    await appears(marker)
    runner = psutil.Process(pool.pids[0]).children()[0].pid
    os.kill(pool.pids[0], signal.SIGKILL)
    failure = (await task).failure
    assert failure is not None
    assert failure.kind == "died"
    async with asyncio.timeout(2):
        while runs(runner):
            await asyncio.sleep(0.01)


async def test_an_idle_worker_that_died_is_replaced(pool: WorkerPool) -> None:
    pid = (await pool.call(call("who"))).value[0]
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.3)
    assert (await pool.call(call("who"))).value[0] != pid


async def test_calls_beyond_the_maximum_wait_their_turn(pool: WorkerPool, tmp_path: Path) -> None:
    order = tmp_path / "order"
    done: list[int] = []

    async def one(number: int) -> None:
        await pool.call(call("sleep", seconds=0.05, marker=str(order)))
        done.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await asyncio.gather(*tasks)
    assert len(pool.pids) == 2
    assert sorted(done) == list(range(6))
    assert all(abs(place - number) <= 1 for place, number in enumerate(done))


async def test_a_waiting_call_can_be_cancelled(pool: WorkerPool, tmp_path: Path) -> None:
    marker = tmp_path / "never"
    running = [asyncio.create_task(pool.call(call("sleep", seconds=0.3))) for _ in range(2)]
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(pool.call(call("busy", marker=str(marker))))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [reply.value for reply in await asyncio.gather(*running)] == ["slept", "slept"]
    assert not marker.exists()
    assert (await pool.call(call("count"))).failure is None


async def test_cancelling_while_a_worker_starts_leaves_nothing(root: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    async with WorkerPool(root, maximum=1, warm=0) as pool:
        for delay in (0, 0.001, 0.005, 0.02):
            task = asyncio.create_task(pool.call(call("count")))
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert (await pool.call(call("count"))).failure is None
    async with asyncio.timeout(5):
        while set(psutil.Process().children(recursive=True)) - before:
            await asyncio.sleep(0.01)


async def test_closing_ends_busy_and_idle_workers(root: Path, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    async with WorkerPool(root, maximum=3, warm=1) as pool:
        await asyncio.gather(pool.call(call("sleep", seconds=0.1)), pool.call(call("sleep", seconds=0.1)))
        task = asyncio.create_task(pool.call(call("busy", marker=str(marker))))
        await appears(marker)
        pids = pool.pids
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    reply = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(reply, Exception) or reply.failure is not None
    with pytest.raises(WorkerUnavailable):
        await pool.call(call("count"))


async def test_warm_workers_are_ready_and_others_are_let_go(root: Path) -> None:
    async with WorkerPool(root, maximum=3, warm=1, idle_seconds=0.1) as pool:
        assert not pool.pids
        pool.prepare()
        async with asyncio.timeout(5):
            while not pool.pids:
                await asyncio.sleep(0.01)
        await asyncio.gather(*(pool.call(call("sleep", seconds=0.1)) for _ in range(3)))
        async with asyncio.timeout(5):
            while len(pool.pids) > 1:
                await asyncio.sleep(0.02)
        assert len(pool.pids) == 1


SERVER = """
import asyncio, sys
from pathlib import Path
from modular_agent.engine.tools.workers import WorkerCall, WorkerPool

async def main(root, marker, name, tag):
    async with WorkerPool(Path(root), maximum=2, warm=1) as pool:
        arguments = {"marker": marker} | ({"tag": tag} if name == "family" else {})
        task = asyncio.create_task(pool.call(WorkerCall(reference="tools.work:" + name, arguments=arguments)))
        while not Path(marker).exists():
            await asyncio.sleep(0.01)
        print(*pool.pids, flush=True)
        await task

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[Callable[[str, str], tuple[subprocess.Popen[str], list[int]]]]:
    started: list[subprocess.Popen[str]] = []

    def start(name: str, tag: str) -> tuple[subprocess.Popen[str], list[int]]:
        arguments = [str(root), str(tmp_path / "started"), name, tag]
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), *arguments], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process, [child.pid for child in psutil.Process(process.pid).children(recursive=True)]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["busy", "hold_the_lock", "family", "ignore_everything"])
async def test_a_killed_server_leaves_no_orphans(
    server: Callable[[str, str], tuple[subprocess.Popen[str], list[int]]], name: str
) -> None:
    tag = f"86400.{os.getpid()}2"
    process, members = server(name, tag)
    assert len(members) >= 2
    process.kill()
    process.wait()
    async with asyncio.timeout(3):
        while [pid for pid in members if runs(pid)] or processes(tag):
            await asyncio.sleep(0.02)
