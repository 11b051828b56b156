"""What is wrong with a request is told in the caller's language, by HTTP and WebSocket alike."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from servers.live_server import LiveServer

CHINESE = re.compile(r"[一-鿿]")
ASKS = """
state: {schema: {type: object, properties: {count: {type: integer, minimum: 0}}}}
nodes:
  ask:
    type: human
    question: Send this?
    form: {approve: {type: boolean}, reason: {type: string, maxLength: 3}}
    required: [approve]
edges: [{from: START, to: ask}, {from: ask, to: END}]
"""
BROKEN = """
schema: modular-agent/v1
name: broken
models: {main: {provider: scripted, script: scripts/none.yaml}}
nodes:
  a: {type: lmm}
  b: {type: wait, duration: soon}
  c: {type: wait, until: "state.count +"}
edges: [{from: START, to: d}, {from: a, to: END, wen: x}]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    server = LiveServer(tmp_path)
    server.workflow(ASKS)
    async with server:
        yield server


async def refused(server: LiveServer, method: str, url: str, body: Any, language: str = "zh") -> dict[str, str]:
    answer = await server.client.request(method, url, json=body, headers={"Accept-Language": language})
    assert 400 <= answer.status_code < 500, answer.text
    return {fault["path"]: fault["message"] for fault in answer.json()["errors"]}


async def test_an_answer_that_does_not_fit_its_form(server: LiveServer) -> None:
    session_id = await server.session()
    run = await server.run(session_id, "go")
    url = f"/sessions/{session_id}/interrupts/{run['interrupts'][0]['interrupt_id']}"
    body = {"answer": {"reason": "long", "more": 1}}
    assert await refused(server, "POST", url, {"answer": {"approve": "yes"}}) == {
        "answer.approve": "'yes' 必须是 true 或 false"
    }
    said = await server.client.post(url, json=body, headers={"Accept-Language": "zh"})
    assert sorted(fault["message"] for fault in said.json()["errors"]) == [
        "'long' 最多可有 3 个字符",
        "不允许有其他字段：'more'",
        "缺少必填字段 'approve'",
    ]
    english = await server.client.post(url, json=body)
    assert {fault["message"] for fault in english.json()["errors"]} == {
        "'long' is too long",
        "Additional properties are not allowed ('more' was unexpected)",
        "'approve' is a required property",
    }
    async with server.socket(additional_headers={"Accept-Language": "zh"}) as client:
        data = {"action": "answer", "interrupt_id": run["interrupts"][0]["interrupt_id"], "answer": 5}
        answer = await client.ask("control", session_id=session_id, data=data)
    assert answer["data"]["errors"] == [{"code": "answer_value", "message": "5 必须是对象", "path": "answer"}]


async def test_what_a_run_starts_with(server: LiveServer) -> None:
    runs = f"/sessions/{await server.session()}/runs"
    assert await refused(server, "POST", runs, {"limits": {"max_steps": 0, "max_seconds": "soon"}}) == {
        "limits.max_steps": "不得小于 1",
        "limits.max_seconds": "时长是秒数，或 500ms、30s、5m、2h、1d 这样的文本",
    }
    assert await refused(server, "POST", runs, {"input": {"count": -1, "amount": 1}}) == {
        "state.count": "-1 不得小于 0",
        "state.amount": "工作流的状态没有键 'amount'",
    }
    new = {"workflow_config_path": "workflows/test.yaml", "agent_config": {"temperature": -1, "modl": "x"}}
    said = await refused(server, "POST", "/sessions/", new)
    assert said.pop("agent_config.modl").startswith("没有键 'modl'；可用的有 agent, ")
    assert said == {"agent_config.temperature": "必须是不小于 0 的数字"}


async def test_a_message_of_the_websocket(server: LiveServer) -> None:
    async with server.socket(additional_headers={"Accept-Language": "zh"}) as client:
        answer = await client.ask("subscribe", session_id="", after_seq=-1, afterseq=3)
        assert {fault["path"]: fault["message"] for fault in answer["data"]["errors"]} == {
            "session_id": "必须是 1 至 256 个字符的文本",
            "after_seq": "必须是不小于 0 的整数",
            "afterseq": "未知",
        }
        assert "afterseq: 未知（是否想用 'after_seq'？）" in answer["data"]["message"]
        for text in ("{", "[]", '{"type": 5}', '{"type": "ping", "data": ' + "[" * 200 + "]" * 200 + "}"):
            await client.connection.send(text)
            data = (await client.until("error"))["data"]
            assert CHINESE.search(data["errors"][0]["message"]), data
            assert CHINESE.search(data["message"]), data


@pytest.mark.parametrize(("language", "chinese"), [("zh-CN", True), ("en", False)])
async def test_every_fault_of_a_workflow(server: LiveServer, *, language: str, chinese: bool) -> None:
    body = {"content": BROKEN}
    answer = await server.client.post("/workflows/validate", json=body, headers={"Accept-Language": language})
    faults = answer.json()["errors"]
    assert len(faults) >= 5, faults
    assert [fault for fault in faults if bool(CHINESE.search(fault["message"])) is not chinese] == []
