"""What a streamed turn costs: two model calls, one tool call, everything stored (`python benchmarks/turns.py`).

Beside it, in the same run, a bare FastAPI endpoint that makes the same calls with aiohttp and stores nothing. Model
server, both servers and the load client are processes of their own. CPU is that of the server's process with all of
its threads, so that what else the machine does distorts it little; each figure is the median of the rounds.

    python benchmarks/turns.py [--rounds 3] [--turns 400] [--only turns,starts,growth] [--json results.json]
"""

import argparse
import os
import platform
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
SERVE: Final = ("-m", "modular_agent", "serve")
QUESTION: Final = "What is 17 * 23?"
CONCURRENCIES: Final = (1, 16, 64)
SESSION: Final = 10  # turns of a session; what longer ones cost is the section `growth`


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def call(method: str, url: str, body: object = None) -> Any:
    """A JSON request; its JSON answer."""
    data = None if body is None else orjson.dumps(body)
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return orjson.loads(response.read())


def wait_until(ready: Callable[[], bool], *, limit: float = 30.0, every: float = 0.005) -> None:
    """Raises `TimeoutError` after `limit` seconds."""
    end = time.monotonic() + limit
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("the process did not get ready")
        time.sleep(every)


def answers(port: int, path: str = "/health") -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@contextmanager
def process(arguments: list[str], environment: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    """A child process, ended at the end; what it prints goes nowhere."""
    log = open(os.environ.get("BENCHMARK_LOG", os.devnull), "ab")  # noqa: SIM115, PTH123
    child = subprocess.Popen(arguments, env={**os.environ, **(environment or {})}, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        log.close()


def cpu_seconds(server: psutil.Process) -> float:
    """CPU of a process with its threads and living children."""
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return sum(each.user + each.system for each in times)


class Product:
    """Our server, on a data directory of its own."""

    name = "modular-agent"
    ending = "event: end"

    def __init__(self, stack: ExitStack, model_url: str) -> None:
        self.data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turns-")))
        self.port = free_port()
        environment = server_environment(self.data, self.port, model_url)
        self.process = stack.enter_context(process([sys.executable, *SERVE], environment))
        wait_until(lambda: answers(self.port))
        self.url = f"http://127.0.0.1:{self.port}"
        self.body = {"message": QUESTION, "mode": "stream"}

    def paths(self, count: int) -> list[str]:
        """New sessions to run turns on."""
        return [f"/sessions/{self.session()}/runs" for _ in range(count)]

    def session(self) -> str:
        """A new session's id."""
        return call("POST", f"{self.url}/sessions/", {"workflow_config_path": "workflows/react.yaml"})["session_id"]


class Bare:
    """The endpoint to compare with."""

    name = "bare"
    ending = "event: end"

    def __init__(self, stack: ExitStack, model_url: str) -> None:
        self.port = free_port()
        arguments = [sys.executable, str(HERE / "bare.py"), "--port", str(self.port), "--model-url", model_url]
        self.process = stack.enter_context(process(arguments))
        wait_until(lambda: answers(self.port))
        self.body = {"message": QUESTION}

    def paths(self, count: int) -> list[str]:
        """The one path, as often."""
        return ["/turn"] * count


def server_environment(data: Path, port: int, model_url: str) -> dict[str, str]:
    """The settings: defaults, but for what makes the server find the model server and keep to itself."""
    return {
        "DATA_PATH": str(data),
        "CONFIG_PATH": str(ROOT / "configs"),
        "PORT": str(port),
        "LOG_FILE": "none",
        "LOG_FORMAT": "json",
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "benchmark",
        "MODEL": "gpt-4.1-mini",
    }


def load(server: Product | Bare, paths: list[list[str]], turns: int) -> dict[str, Any]:
    """Runs turns from the load client, each list of paths by a client; what it measured."""
    job = {"port": server.port, "paths": paths, "body": server.body, "turns": turns, "ending": server.ending}
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py")], input=orjson.dumps(job), stdout=subprocess.PIPE, check=True
    )
    return orjson.loads(done.stdout)


def measure(server: Product | Bare, concurrency: int, turns: int) -> dict[str, float]:
    """One round at one concurrency."""
    sessions = -(-turns // (concurrency * SESSION))  # of each client
    paths = [server.paths(sessions) for _ in range(concurrency)]
    before = cpu_seconds(server.process)
    measured = load(server, paths, turns)
    spent = cpu_seconds(server.process) - before
    latencies = sorted(measured["latencies_ms"])
    return {
        "turns_per_second": turns / measured["seconds"],
        "p50_ms": latencies[len(latencies) // 2],
        "p95_ms": latencies[int(len(latencies) * 0.95)],
        "cpu_ms": spent / turns * 1000,
        "rss_mb": server.process.memory_info().rss / 1e6,
        "bytes_per_turn": measured["bytes"] / turns,
    }


def median_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Key by key."""
    return {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]}


@contextmanager
def model_server() -> Iterator[str]:
    """The fast local model server; its OpenAI base URL."""
    port = free_port()
    program = str(ROOT / "tests" / "servers" / "model_server.py")
    with process([sys.executable, program, "--port", str(port), "--remember", "1"]):
        wait_until(lambda: answers(port, "/requests"))
        yield f"http://127.0.0.1:{port}/v1"


def turns_section(arguments: argparse.Namespace) -> dict[str, Any]:
    """Turns at each concurrency, ours and the bare endpoint's round by round."""
    with ExitStack() as stack:
        model_url = stack.enter_context(model_server())
        servers: list[Product | Bare] = [Product(stack, model_url)]
        if not arguments.without_bare:
            servers.append(Bare(stack, model_url))
        for server in servers:
            load(server, [server.paths(1) for _ in range(8)], 100)  # warm
        result: dict[str, Any] = {}
        for concurrency in arguments.concurrency:
            turns = arguments.turns if concurrency > 1 else max(100, arguments.turns // 2)
            found: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
            for _ in range(arguments.rounds):
                for server in servers:
                    found[server.name].append(measure(server, concurrency, turns))
            result[str(concurrency)] = {name: median_of(rounds) for name, rounds in found.items()}
        return result


def starts_section(arguments: argparse.Namespace) -> dict[str, float]:
    """From spawning the process to the first 200 of /health, and to the end of a first turn; byte code is there."""
    healthy: list[float] = []
    first_turn: list[float] = []
    cpu: list[float] = []
    with model_server() as model_url:
        for number in range(arguments.starts + 1):
            with tempfile.TemporaryDirectory(prefix="turns-") as data:
                port = free_port()
                began = time.perf_counter()
                environment = server_environment(Path(data), port, model_url)
                with process([sys.executable, *SERVE], environment) as server:
                    wait_until(lambda port=port: answers(port))
                    up = time.perf_counter() - began
                    spent = cpu_seconds(server)
                    url = f"http://127.0.0.1:{port}"
                    made = call("POST", f"{url}/sessions/", {"workflow_config_path": "workflows/react.yaml"})
                    call("POST", f"{url}/sessions/{made['session_id']}/runs", {"message": QUESTION, "mode": "wait"})
                    turned = time.perf_counter() - began
            if number:  # the first one may have had to compile
                healthy.append(up)
                first_turn.append(turned)
                cpu.append(spent)
    return {
        "healthy_s": round(statistics.median(healthy), 3),
        "healthy_cpu_s": round(statistics.median(cpu), 3),
        "first_turn_s": round(statistics.median(first_turn), 3),
        "fastest_healthy_s": round(min(healthy), 3),
    }


class Growth:
    """What the turns of one session store, read from the database between them."""

    def __init__(self, data: Path, session_id: str) -> None:
        self._connection = sqlite3.connect(f"file:{data / 'modular_agent.db'}?mode=ro", uri=True)
        (self._n,) = self._connection.execute("SELECT n FROM sessions WHERE session_id = ?", (session_id,)).fetchone()

    def _number(self, text: str, *parameters: object) -> int:
        return self._connection.execute(text, parameters).fetchone()[0] or 0

    def newest_run(self) -> dict[str, int]:
        """Bytes of the newest run: checkpoints with metadata, writes, and records; and of all log items."""
        (run,) = self._connection.execute(
            "SELECT run_id FROM runs WHERE session_n = ? ORDER BY created_at DESC LIMIT 1", (self._n,)
        ).fetchone()
        chosen = "SELECT checkpoint_id FROM checkpoints WHERE session_n = ? AND run_id = ?"
        return {
            "checkpoints": self._number(
                "SELECT sum(length(checkpoint) + length(metadata)) FROM checkpoints WHERE session_n = ? AND run_id = ?",
                *(self._n, run),
            ),
            "writes": self._number(
                f"SELECT sum(length(value)) FROM checkpoint_writes WHERE session_n = ? AND checkpoint_id IN ({chosen})",
                *(self._n, self._n, run),
            ),
            "records": self._number("SELECT sum(length) FROM records WHERE session_n = ? AND run_id = ?", self._n, run),
            "items": self._number("SELECT sum(length(value)) FROM log_items WHERE session_n = ?", self._n),
        }


def growth_section(arguments: argparse.Namespace) -> dict[str, Any]:
    """A turn's cost after 10 and after 300 turns of one session."""
    with ExitStack() as stack:
        model_url = stack.enter_context(model_server())
        server = Product(stack, model_url)
        load(server, [server.paths(1) for _ in range(4)], 60)
        session = server.session()
        path = [[f"/sessions/{session}/runs"]]
        result: dict[str, Any] = {}
        done = 0
        for stage in (10, 300):
            load(server, path, stage - done)
            growth = Growth(server.data, session)
            items = growth.newest_run()["items"]
            before = cpu_seconds(server.process)
            measured = load(server, path, 20)
            spent = cpu_seconds(server.process) - before
            stored = growth.newest_run()
            stored["items"] = (stored["items"] - items) // 20
            done = stage + 20
            result[str(stage)] = {
                **{f"{name}_bytes": value for name, value in stored.items()},
                "cpu_ms": round(spent / 20 * 1000, 2),
                "p50_ms": round(statistics.median(measured["latencies_ms"]), 2),
            }
        return result


SECTIONS: Final[Mapping[str, Callable[[argparse.Namespace], Any]]] = {
    "turns": turns_section,
    "starts": starts_section,
    "growth": growth_section,
}


def tell(results: Mapping[str, Any]) -> None:
    """Prints the tables."""
    if "turns" in results:
        heads = "".join(f" {head:>8}" for head in ("turns/s", "p50 ms", "p95 ms", "CPU ms", "RSS MB"))
        print(f"{'concurrency':>11}  {'server':<14}{heads}")
        for concurrency, servers in results["turns"].items():
            for name, found in servers.items():
                print(
                    f"{concurrency:>11}  {name:<14} {found['turns_per_second']:8.1f} {found['p50_ms']:8.2f}"
                    f" {found['p95_ms']:8.2f} {found['cpu_ms']:8.2f} {found['rss_mb']:8.1f}"
                )
            if "bare" in servers:
                ratio = servers["modular-agent"]["cpu_ms"] / servers["bare"]["cpu_ms"]
                print(f"{'':>11}  ratio of CPU to bare: {ratio:.2f}")
    for section in ("starts", "growth"):
        if section in results:
            print(section)
            for key, value in results[section].items():
                print(f"  {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=400, help="turns of a round")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="*", default=CONCURRENCIES)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--without-bare", action="store_true")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    }
    for name in arguments.only.split(","):
        results[name] = SECTIONS[name](arguments)
    tell(results)
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
