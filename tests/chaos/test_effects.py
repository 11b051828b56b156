"""A crash between an irreversible effect and its result: the run asks a person, and never does it twice by itself."""

from pathlib import Path
from typing import Any

import pytest

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel, plan
from chaos.world import ChaosServer, until_status
from servers.server_process import eventually

pytestmark = pytest.mark.timeout(60)


async def paid(server: ChaosServer, times: int) -> None:
    """Returns when the tool has begun so often."""

    async def begun() -> bool:
        return len([line for line in server.ledger() if line["tool"] == "pay"]) >= times

    await eventually(f"payment number {times}", begun, within=15, every=0.01)


async def crash_in_payment(server: ChaosServer, times: int = 1) -> None:
    await paid(server, times)
    await server.restart()


async def the_question(server: ChaosServer, session_id: str) -> dict[str, Any]:
    async def asked() -> Any:
        return (await server.get(f"/sessions/{session_id}/interrupts"))["interrupts"]

    (question,) = await eventually("a question", asked, within=15)
    assert question["kind"] == "effect"
    assert question["question"]["tool_name"] == "pay"
    return question


async def answer(server: ChaosServer, session_id: str, **fields: Any) -> None:
    question = await the_question(server, session_id)
    await server.post(f"/sessions/{session_id}/interrupts/{question['interrupt_id']}", {"answer": fields})


async def pay_session(server: ChaosServer) -> str:
    session_id = await server.create_session("react")
    await server.start_run(session_id, plan(["note:a", "pay:b"], "It is done."))
    return session_id


async def test_a_payment_cut_by_a_crash_is_asked_about_and_not_repeated(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, pay_seconds=0.5) as server:
        session_id = await pay_session(server)
        await crash_in_payment(server)
        await the_question(server, session_id)
        await until_status(server, [session_id], "paused")
        await answer(server, session_id, outcome="done", result="paid by hand")
        await until_status(server, [session_id])
        records = await check_session(server, session_id)
        assert [line["tool"] for line in server.ledger()].count("pay") == 1
        told = [record["content"] for record in records if record.get("message_type") == "tool"]
        assert sorted(told) == ["noted a", "paid by hand"]


async def test_a_person_may_have_it_run_again_with_the_same_key(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, pay_seconds=0.3) as server:
        session_id = await pay_session(server)
        await crash_in_payment(server)
        await answer(server, session_id, outcome="run_again")
        await until_status(server, [session_id])
        await check_session(server, session_id)
        payments = [line for line in server.ledger() if line["tool"] == "pay"]
        assert len(payments) == 2
        assert len({line["key"] for line in payments}) == 1


async def test_the_model_is_told_that_it_was_not_done(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, pay_seconds=0.3) as server:
        session_id = await pay_session(server)
        await crash_in_payment(server)
        await answer(server, session_id, outcome="not_done")
        await until_status(server, [session_id])
        records = await check_session(server, session_id)
        (result,) = [
            r for r in records if r["record_type"] == "tool_call" and r["tool_name"] == "pay" and r["phase"] == "result"
        ]
        assert result["success"] is False
        assert len([line for line in server.ledger() if line["tool"] == "pay"]) == 1


async def test_a_second_crash_during_the_repetition_asks_again(tmp_path: Path, model: PlannedModel) -> None:
    async with ChaosServer(tmp_path, model.url, pay_seconds=0.5) as server:
        session_id = await pay_session(server)
        await crash_in_payment(server)
        await answer(server, session_id, outcome="run_again")
        await crash_in_payment(server, times=2)
        await the_question(server, session_id)
        assert len([line for line in server.ledger() if line["tool"] == "pay"]) == 2, "nobody asked for a third"
        await answer(server, session_id, outcome="done")
        await until_status(server, [session_id])
        await check_session(server, session_id)
        assert len([line for line in server.ledger() if line["tool"] == "pay"]) == 2


async def test_a_payment_whose_result_is_durable_is_not_asked_about(tmp_path: Path, model: PlannedModel) -> None:
    model.gate.clear()  # the text after the payment does not come to its end
    async with ChaosServer(tmp_path, model.url, pay_seconds=0.0) as server:
        session_id = await pay_session(server)

        async def writing() -> bool:
            return model.held > 0

        await eventually("the answer has begun", writing, within=15)
        await server.kill()
        model.gate.set()
        await server.start()
        await until_status(server, [session_id])
        records = await check_session(server, session_id)
        assert not [record for record in records if record["record_type"] == "interrupt"]
        assert len([line for line in server.ledger() if line["tool"] == "pay"]) == 1
