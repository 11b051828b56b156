"""Somebody who controls a session at random, over REST and a WebSocket, and remembers what was acknowledged."""

import asyncio
import json
import random
from collections import Counter
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from chaos.consistency import check_log
from chaos.derived import messages_dropped
from chaos.random_workflows import answer_to
from chaos.world import ChaosServer
from servers.server_process import eventually

__all__ = ["Operator"]

Records = list[dict[str, Any]]
AWAY = (httpx.TransportError, OSError, WebSocketException)  # the server was killed, or is being started
REFUSALS = {
    *("run_not_paused", "no_active_run", "questions_open", "run_not_running", "illegal_transition", "session_busy"),
    *("run_already_active", "interrupt_closed", "interrupt_not_found", "checkpoint_not_found", "run_queue_full"),
    *("answer_invalid", "fork_node_missing", "stale_epoch", "run_superseded", "run_rolled_back"),
}
CONTROLS = ("pause", "pause", "resume", "resume", "resume", "step", "stop", "retry")
QUIET = ("record_id", "session_id", "metadata", "messages", "usage", "parameters")  # of no use in a story
OUTLINE = ("run", "control", "interrupt")
ANSWER_LIMIT = 60.0  # seconds, longer than any model or tool takes: a control that is never answered is a fault


class Operator:
    """One session's. `given` are the messages that were acknowledged, `unsure` those whose answer was lost."""

    def __init__(self, server: ChaosServer, session_id: str, chance: random.Random, commands: Counter[str]) -> None:
        self.server = server
        self.session_id = session_id
        self.given: set[str] = set()
        self.unsure: set[str] = set()
        self.injected: set[str] = set()
        self.last_words = f"ROAM at last in {session_id}"
        self.forks: list[str] = []
        self.run_again = Counter[str]()  # by label: a person's word for one more attempt
        self._chance = chance
        self._commands = commands
        self._said = 0

    async def work(self, end: asyncio.Event) -> None:
        """Does this and that until told to end; now and then two things at once."""
        while not end.is_set():
            await asyncio.sleep(self._chance.expovariate(4.0))
            count = 2 if self._chance.random() < 0.15 else 1
            await asyncio.gather(*(self._something() for _ in range(count)))

    async def _something(self) -> None:
        kind = self._chance.choice(
            ["start", "start", "control", "control", "control", "answer", "inject", "edit", "fork"]
        )
        try:
            match kind:
                case "start":
                    await self._start()
                case "control":
                    await self._control(self._chance.choice(CONTROLS))
                case "answer":
                    await self.answer_all()
                case "inject":
                    await self._inject()
                case "edit":
                    await self._rest("PATCH", "state", {"state": {"note": f"edited {self._said}"}})
                case _:
                    await self._fork()
        except AWAY:
            self._commands[f"{kind}: away"] += 1

    # -- asking ------------------------------------------------------------------------------------------------

    async def _rest(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response | None:
        """The answer, or None when the server cannot take it now (503); nothing else than what is known is said."""
        url = f"/sessions/{self.session_id}/{path}"
        starts = self.server.starts
        try:
            answer = await self.server.client.request(method, url, json=body, params=params, timeout=ANSWER_LIMIT)
        except httpx.ReadTimeout:
            assert self.server.starts != starts, f"{method} {url} was never answered"
            raise
        code = "ok" if answer.is_success else answer.json()["code"]
        self._commands[f"{method} {path.partition('/')[0]}: {code}"] += 1
        assert answer.is_success or answer.status_code == 503 or code in REFUSALS, answer.text
        return None if answer.status_code == 503 else answer

    async def _socket(self, action: str, **data: Any) -> str:
        """Asks over a WebSocket, waits for what became of it: `result`, `ack` when the server went away, or a code.

        What waits in the queue may wait for a person: its `ack` is enough.
        """
        seen, starts = "nothing", self.server.starts
        last = "ack" if data.get("multitask") == "enqueue" else "result"
        async with self.server.websocket(f"operator-{id(self)}-{self._chance.random()}") as socket:
            message = {"type": "control", "id": "c", "session_id": self.session_id, "data": {"action": action, **data}}
            await socket.send(json.dumps(message))
            try:
                async with asyncio.timeout(ANSWER_LIMIT):
                    while seen not in {last, "result"}:
                        answer = json.loads(await socket.recv())
                        if answer.get("id") == "c":
                            seen = answer["data"]["code"] if answer["type"] == "error" else answer["type"]
                            if answer["type"] == "error":
                                break
            except TimeoutError:
                assert self.server.starts != starts, f"{action} was never answered, after {seen}"
                raise
            except WebSocketException:
                if seen == "nothing":
                    raise
        self._commands[f"socket {action}: {seen}"] += 1
        known = {"result", "ack", "storage_full", "disk_failed", "server_stopping", "queue_full", *REFUSALS}
        assert seen in known, (action, seen)
        return seen

    async def _start(self) -> None:
        self._said += 1
        text = f"ROAM {self._said} in {self.session_id}"
        mode = self._chance.choice(["reject", "reject", "enqueue", "interrupt", "rollback"])
        self.unsure.add(text)
        body = {"message": text, "input": {"items": ["one", "two", "three"]}, "multitask": mode}
        if self._chance.random() < 0.3:
            taken = await self._socket("start", **body) in {"result", "ack"}
        else:
            answer = await self._rest("POST", "runs", body)
            taken = answer is not None and answer.is_success
            if answer is None:
                return
        self.unsure.discard(text)
        if taken:
            self.given.add(text)

    async def _inject(self) -> None:
        self._said += 1
        text = f"ROAM, injected {self._said} in {self.session_id}"
        self.unsure.add(text)
        if self._chance.random() < 0.3:
            taken = await self._socket("inject", message=text) in {"result", "ack"}
        else:
            answer = await self._rest("POST", "messages", {"message": text})
            taken = answer is not None and answer.is_success
        if taken:
            self.unsure.discard(text)
            self.injected.add(text)

    async def _control(self, action: str) -> None:
        if self._chance.random() < 0.3:
            await self._socket(action)
            return
        wait = self._chance.random() < 0.5
        answer = await self._rest("POST", action, wait=wait)
        if action == "stop" and wait and answer is not None and answer.status_code == 200:
            assert answer.json()["status"] in {"stopped", "completed", "failed"}, answer.text

    async def answer_all(self) -> None:
        answer = await self._rest("GET", "interrupts")
        for question in answer.json()["interrupts"] if answer is not None and answer.is_success else ():
            if question["kind"] == "wait":
                continue
            label = question["question"].get("tool_input", {}).get("label", "")
            made = False
            if question["kind"] == "effect":
                await self.server.orphans_gone()
                made = any(line["label"] == label for line in self.server.ledger())
            given = answer_to(question, self._chance, done=made)
            if given.get("outcome") == "run_again":
                self.run_again[label] += 1
            if self._chance.random() < 0.3:
                await self._socket("answer", interrupt_id=question["interrupt_id"], answer=given)
            else:
                await self._rest("POST", f"interrupts/{question['interrupt_id']}", {"answer": given})

    async def _fork(self) -> None:
        if len(self.forks) < 2 and self._said:
            answer = await self._rest("POST", "fork", {})
            if answer is not None and answer.is_success:
                self.forks.append(answer.json()["session_id"])

    def find_forks(self) -> None:
        """Those too whose answer was lost when the server was killed."""
        forked = "SELECT session_id FROM sessions WHERE json_extract(metadata, '$.forked_from') = ?"
        made = [row[0] for row in self.server.query(forked, self.session_id)]
        assert set(self.forks) <= set(made)
        self.forks = made

    # -- the end -----------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Brings the session to its end, as a person would; nothing may stay under way for ever."""

        async def ended() -> bool:
            waits = await self._waits()  # before we look: what has gone from there is a run by then
            session = await self.server.session(self.session_id)
            if session["status"] == "paused":
                await self.answer_all()
                await self._rest("POST", "resume")
            elif session["status"] == "error":
                answer = await self._rest("POST", "retry")
                gone = answer is not None and not answer.is_success and answer.json()["code"] == "run_rolled_back"
                return gone and not waits  # what waits starts then
            return session["status"] in {"active", "completed", "stopped"} and not (session["current_run_id"] or waits)

        try:
            await eventually(f"{self.session_id} ends", ended, within=60, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.story()}") from error

    async def story(self) -> str:
        """The session, its runs and questions, an outline of its log and its end, for whoever has to find out."""
        session = await self.server.session(self.session_id)
        runs = (await self.server.get(f"/sessions/{self.session_id}/runs"))["runs"]
        questions = (await self.server.get(f"/sessions/{self.session_id}/interrupts"))["interrupts"]
        records = await self.server.records(self.session_id)
        told = [
            " ".join(f"{key}={value}" for key, value in record.items() if value and key not in QUIET)[:300]
            for record in records
            if record in records[-80:] or record["record_type"] in OUTLINE or record.get("message_type") == "user"
        ]
        return "\n".join([f"status {session['status']}", *map(str, [*runs, *questions]), *told])

    async def _waits(self) -> bool:
        """Whether an input is in the session's queue."""
        rows = self.server.query(
            "SELECT count(*) FROM run_inbox i JOIN sessions s ON s.n = i.session_n"
            " WHERE s.session_id = ? AND (i.run_id IS NULL OR i.run_id IN"
            " (SELECT run_id FROM runs WHERE status = 'completed'))",
            self.session_id,
        )
        return bool(rows[0][0])

    async def end(self) -> None:
        """One more run, which nobody disturbs: it takes up whatever is left."""
        body = {"message": self.last_words, "input": {"items": ["one"]}}
        try:
            await self.server.post(f"/sessions/{self.session_id}/runs", body)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.story()}") from error
        self.given.add(self.last_words)
        await self.settle()

    async def check(self) -> Records:
        """Checks the session from outside; its records."""
        try:
            return await self._check()
        except AssertionError as error:
            messages = (await self.server.get(f"/sessions/{self.session_id}/state"))["messages"]
            held = [f"{m['role']}: {m['content']} {[c['id'] for c in m.get('tool_calls') or ()]}" for m in messages]
            raise AssertionError("\n".join([str(error), await self.story(), "the state:", *held])) from error

    async def _check(self) -> Records:
        assert (await self.server.session(self.session_id))["status"] == "completed"
        records = await check_log(self.server, self.session_id)
        assert not self.server.query(
            "SELECT i.message FROM run_inbox i JOIN sessions s ON s.n = i.session_n WHERE s.session_id = ?",
            self.session_id,
        ), "something waits, and no run is under way"
        self._check_inputs(records)
        return records

    def _check_inputs(self, records: Records) -> None:
        """Of what was acknowledged each is in the log once: as a message, or as dropped with the run that it was for.

        That the conversation is the state is looked at elsewhere; so this is about what never reached the log. What a
        model inside a sub-workflow took is in that one's conversation.
        """
        own = [record for record in records if "copied_from" not in record["metadata"]]
        logged = Counter(record["content"] for record in own if record.get("message_type") == "user")
        dropped = Counter(messages_dropped(own))
        assert not [text for text, count in (logged + dropped).items() if count > 1 and text.startswith("ROAM")]
        assert self.given <= logged.keys(), f"acknowledged and not in the log: {self.given - logged.keys()}"
        lost = self.injected - logged.keys() - dropped.keys()
        assert not lost, f"injected and lost: {lost}"
        assert not logged.keys() - {"one", "two", "three"} - self.given - self.unsure - self.injected
