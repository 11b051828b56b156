"""The server under chaos, the traces its tools leave outside, and the operator who answers what a crash left open."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from chaos.workflows import TOOLS, WORKFLOWS
from servers.server_process import ServerProcess, eventually
from servers.small_disk import SmallDisk

__all__ = ["ChaosServer", "until_status"]


class ChaosServer(ServerProcess):
    """A server with the chaos workflows; its tools write to `root/ledger.jsonl`. With `disk` its data are there."""

    def __init__(
        self,
        root: Path,
        model_url: str,
        *,
        pay_seconds: float = 0.05,
        workflows: Mapping[str, str] = WORKFLOWS,
        tools: str = TOOLS,
        files: Mapping[str, str] | None = None,
        disk: SmallDisk | None = None,
        **environment: str,
    ) -> None:
        self.ledger_file = root / "ledger.jsonl"
        tools = tools.replace("LEDGER", str(self.ledger_file)).replace("PAY_SECONDS", str(pay_seconds))
        super().__init__(
            root,
            workflows=workflows,
            files={"tools/traces.py": tools, **(files or {})},
            environment={"OPENAI_BASE_URL": model_url, "ENVIRONMENT": "development", **environment},
        )
        self.answered = Counter[str]()
        self._orphans: list[psutil.Process] = []
        self._disk = disk
        if disk is not None:
            self.prefix = disk.prefix
            self.data = disk.seen
            self.environment["DATA_PATH"] = str(disk.folder)

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        if self._disk is None:
            return super().query(sql, *parameters)
        return self._disk.query(self._disk.folder / "modular_agent.db", sql, *parameters)

    async def kill(self) -> None:
        """As before; and remembers the workers that a crash leaves alone."""
        if self.running:
            with suppress(psutil.NoSuchProcess):
                self._orphans += self.children()
        await super().kill()

    async def orphans_gone(self) -> None:
        """Returns when no worker of a killed server runs any more: they are to end by themselves."""
        _, alive = await asyncio.to_thread(psutil.wait_procs, self._orphans, 10)
        assert not alive, f"workers outlived their server: {alive}"
        self._orphans.clear()

    def ledger(self) -> list[dict[str, Any]]:
        if not self.ledger_file.exists():
            return []
        return [json.loads(line) for line in self.ledger_file.read_text(encoding="utf-8").splitlines()]

    async def start_surely(self, session_id: str, body: dict[str, Any]) -> str:
        """Starts a run, asking again with the same key for as long as the server does not answer; the run's id."""
        headers = {"Idempotency-Key": f"run-{session_id}"}
        path = f"/sessions/{session_id}/runs"

        async def ask() -> Any:
            try:
                answer = await self.client.post(path, json=body, headers=headers)
            except httpx.TransportError:
                return None
            if answer.status_code == 503:
                return None
            assert answer.status_code == 202, answer.text
            return answer.json()["run_id"]

        return await eventually(f"a run of {session_id}", ask, within=60)

    async def operate(self) -> None:
        """Answers the questions that crashes left: `done` when the ledger has the payment, else `run_again`."""
        for session in (await self.get("/sessions/", status="paused", page_size=100))["sessions"]:
            session_id = session["session_id"]
            for question in (await self.get(f"/sessions/{session_id}/interrupts"))["interrupts"]:
                await self.orphans_gone()
                assert question["kind"] == "effect", question
                label = question["question"]["tool_input"]["label"]
                made = [line for line in self.ledger() if line["session"] == session_id and line["label"] == label]
                outcome = "done" if made else "run_again"
                path = f"/sessions/{session_id}/interrupts/{question['interrupt_id']}"
                await self.post(path, {"answer": {"outcome": outcome}})
                self.answered[outcome] += 1


async def until_status(
    server: ServerProcess,
    sessions: Iterable[str],
    status: str = "completed",
    *,
    operator: ChaosServer | None = None,
    within: float = 40.0,
) -> None:
    """Returns when every session has the status, with the help of an operator if there is one.

    Fails at once when a run of one has failed.
    """
    waiting = set(sessions)

    async def reached() -> bool:
        if operator is not None:
            await operator.operate()
        for session_id in list(waiting):
            found = await server.session(session_id)
            assert found["status"] != "error", await server.get(f"/sessions/{session_id}/runs")
            if found["status"] == status and found["last_seq"]:
                waiting.discard(session_id)
        return not waiting

    try:
        await eventually(f"{status}: all", reached, within=within, every=0.1)
    except AssertionError as error:
        shown = [await server.get(f"/sessions/{session_id}/runs") for session_id in sorted(waiting)[:3]]
        raise AssertionError(f"{len(waiting)} sessions not {status}: {shown}") from error
