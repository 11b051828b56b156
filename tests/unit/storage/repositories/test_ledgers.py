"""Effects, interrupts, model calls, errors, workflows, idempotency keys."""

import asyncio
import dataclasses

import pytest

from modular_agent.storage.errors import IdempotencyKeyReused, InterruptClosed, InterruptUnknown, RequestRepeated
from modular_agent.storage.repositories.effects import (
    EffectRepository,
    EffectStatus,
    NewEffect,
    put_effect,
    record_attempt,
    record_intent,
    record_result,
)
from modular_agent.storage.repositories.errors import ErrorRepository, ErrorRow, put_error
from modular_agent.storage.repositories.idempotency import IdempotencyRepository, claim_key, forget_keys
from modular_agent.storage.repositories.interrupts import (
    InterruptRepository,
    answer_interrupt,
    open_interrupt,
    withdraw_interrupts,
)
from modular_agent.storage.repositories.llm_calls import LlmCallRepository, LlmCallRow, put_llm_call
from modular_agent.storage.repositories.sessions import NewSession, SessionRepository, create_session
from modular_agent.storage.repositories.workflows import (
    NewVersion,
    WorkflowRepository,
    put_version,
    touch_workflow,
    unload_workflow,
)
from modular_agent.storage.unit_of_work import UnitOfWork, in_order


@pytest.fixture
def do(database):
    async def commit(step):
        return (await database.writer.commit(UnitOfWork(then=step))).result

    return commit


@pytest.fixture
async def session(make_session):
    return await make_session()


def call(session, tool_call_id, *, run_id="run_1", now_us=1):
    return NewEffect(
        session=session,
        tool_call_id=tool_call_id,
        run_id=run_id,
        node="act",
        tool_name="refund",
        effect="irreversible",
        idempotency_key=f"key-{tool_call_id}",
        now_us=now_us,
    )


async def test_an_intent_is_noted_once_and_its_result_later(database, session, do):
    effects = EffectRepository(database.readers)
    row, new = await do(record_intent(call(session, "a")))
    assert (row.status, row.attempts, row.result, new) == ("intent", 1, None, True)
    await do(record_intent(call(session, "b", now_us=2)))
    await do(record_intent(call(session, "c", run_id="run_2")))
    assert [e.tool_call_id for e in await effects.open_intents(session, run_id="run_1")] == ["a", "b"]
    done = await do(record_result(session, "a", status=EffectStatus.DONE, result='{"ok":1}', now_us=9))
    assert (done.status, done.result, done.result_at) == ("done", '{"ok":1}', 9)
    again, new = await do(record_intent(call(session, "a", now_us=77)))
    assert (again, new) == (done, False)
    assert [e.tool_call_id for e in await effects.open_intents(session, run_id="run_1")] == ["b"]
    repeated = await do(record_attempt(session, "b", run_id="run_1", now_us=5))
    assert (repeated.attempts, repeated.status, repeated.idempotency_key) == (2, "intent", "key-b")
    assert await do(record_result(session, "none", status=EffectStatus.DONE, result=None, now_us=1)) is None
    assert await effects.get(session, "a") == done
    assert [e.tool_call_id for e in await effects.of_run(session, run_id="run_1")] == ["a", "b"]


async def test_a_result_as_data_keeps_the_attempts(database, session, do):
    intent, _ = await do(record_intent(call(session, "a", now_us=3)))
    await do(record_attempt(session, "a", run_id="run_1", now_us=4))
    unit: UnitOfWork[None] = UnitOfWork()
    for name in ("a", "unheard of"):
        done = dataclasses.replace(intent, tool_call_id=name, status="done", result="{}", result_at=9)
        put_effect(unit, done)
    await database.writer.commit(unit)
    row = await EffectRepository(database.readers).get(session, "a")
    assert (row.status, row.attempts, row.result_at) == ("done", 2, 9)
    assert await EffectRepository(database.readers).get(session, "unheard of") == done


async def test_a_question_is_answered_once(database, session, do):
    unit: UnitOfWork[None] = UnitOfWork()
    row = open_interrupt(
        unit,
        interrupt_id="int_1",
        session=session,
        run_id="run_1",
        node="review",
        graph_id="g",
        kind="question",
        question={"text": "发送吗？"},
        form={"type": "object"},
        now_us=1,
    )
    await database.writer.commit(unit)
    interrupts = InterruptRepository(database.readers)
    assert await interrupts.open(session) == await interrupts.open() == [row]
    answers = [answer_interrupt("int_1", answer={"approve": n}, answered_by="me", now_us=5) for n in range(3)]
    first, *others = await asyncio.gather(*map(do, answers), return_exceptions=True)
    assert (first.status, first.answer, first.answered_by, first.answered_at) == ("answered", {"approve": 0}, "me", 5)
    assert [(type(error), error.status) for error in others] == [(InterruptClosed, "answered")] * 2
    assert await interrupts.open() == []
    assert await interrupts.get("int_1") == first
    with pytest.raises(InterruptUnknown):
        await do(answer_interrupt("none", answer=None, answered_by="me", now_us=1))


async def test_due_questions_come_longest_overdue_first_and_a_runs_are_withdrawn(database, session, make_run, do):
    run = await make_run(session)
    unit: UnitOfWork[None] = UnitOfWork()
    for n, due in enumerate([30, 10, None, 20]):
        open_interrupt(
            unit,
            interrupt_id=f"i{n}",
            session=session,
            run_id=run.run_id,
            node="n",
            graph_id="g",
            kind="wait",
            question=None,
            now_us=n,
            due_at=due,
        )
    await database.writer.commit(unit)
    interrupts = InterruptRepository(database.readers)
    assert [row.interrupt_id for row in await interrupts.due(now_us=20)] == ["i1", "i3"]
    assert await interrupts.next_due_at() == 10
    assert sorted(await do(withdraw_interrupts(run.run_id, now_us=9))) == ["i0", "i1", "i2", "i3"]
    assert await interrupts.next_due_at() is None
    assert {row.status for row in await interrupts.of_run(run.run_id, session)} == {"withdrawn"}
    assert len(await interrupts.of_session(session)) == 4


async def test_usage_is_summed_by_model(database, session):
    row = LlmCallRow(
        *("c0", session.n, "run_1", 1, "react", "think", "openai", "m1", 500, 100),
        *(10, 5, 4, 1, 2, 1_000, "override", None),
    )
    unit: UnitOfWork[None] = UnitOfWork()
    for n, change in enumerate(
        [{}, {"prompt_tokens": 20}, {"model": "m2", "cost_nano": None}, {"run_id": "run_2", "error_kind": "timeout"}]
    ):
        put_llm_call(unit, dataclasses.replace(row, call_id=f"c{n}", **change))
    await database.writer.commit(unit)
    calls = LlmCallRepository(database.readers)
    first, second = await calls.usage_of_run(session, "run_1")
    assert (first.model, first.calls, first.errors, first.prompt_tokens, first.completion_tokens) == (
        "m1",
        2,
        0,
        30,
        10,
    )
    assert (first.cached_tokens, first.cache_write_tokens, first.reasoning_tokens) == (8, 2, 4)
    assert (first.cost_nano, first.unpriced_tokens, first.duration_us) == (2_000, 0, 1_000)
    assert (second.model, second.cost_nano, second.unpriced_tokens) == ("m2", 0, 15)
    whole = await calls.usage_of_session(session)
    assert [(u.model, u.calls, u.errors) for u in whole] == [("m1", 3, 1), ("m2", 1, 0)]
    assert await calls.usage_of_run(session, "none") == []
    assert [found.call_id for found in await calls.calls_of_run(session, "run_1")] == ["c0", "c1", "c2"]
    assert (await calls.calls_of_run(session, "run_2"))[0] == dataclasses.replace(
        row, call_id="c3", run_id="run_2", error_kind="timeout"
    )


async def test_errors_come_newest_first(database, session):
    unit: UnitOfWork[None] = UnitOfWork()
    for n in range(5):
        owner = session.n if n else None
        put_error(unit, ErrorRow(f"e{n}", owner, None, None, n, f"T{n % 2}", "m", "error", f"f{n % 2}"))
    await database.writer.commit(unit)
    errors = ErrorRepository(database.readers)
    page = await errors.page(limit=2, offset=1)
    assert ([e.error_id for e in page.errors], page.total) == (["e3", "e2"], 5)
    chosen = await errors.page(session=session, fingerprint="f0", start=2, end=4, limit=9)
    assert [e.error_id for e in chosen.errors] == ["e2"]
    assert await errors.count_by_type(session) == {"T0": 2, "T1": 2}
    assert (await errors.get("e1")).ts == 1
    assert await errors.get("none") is None


def version(content_hash, *, workflow_id="react", now_us=1):
    return NewVersion(
        workflow_id=workflow_id,
        content_hash=content_hash,
        config_path=f"workflows/{workflow_id}.yaml",
        version="1.0",
        bundle={f"workflows/{workflow_id}.yaml": "name: 反应"},
        now_us=now_us,
    )


async def test_every_content_of_a_workflow_is_kept(database, do):
    workflows = WorkflowRepository(database.readers)
    assert await do(put_version(version("h1")))
    assert await do(put_version(version("h2", now_us=2)))
    assert not await do(put_version(version("h1", now_us=3)))
    row = await workflows.get("react")
    assert (row.content_hash, row.loaded_at, row.usage_count, row.last_used, row.unloaded) == ("h1", 3, 0, None, False)
    assert [v.content_hash for v in await workflows.versions("react")] == ["h2", "h1"]
    assert (await workflows.version("h1")).bundle == {"workflows/react.yaml": "name: 反应"}
    await do(touch_workflow("react", now_us=9))
    assert (await workflows.get("react")).usage_count == 1
    assert await do(unload_workflow("react"))
    assert not await do(unload_workflow("react"))
    assert (await workflows.page(limit=5)).total == 0
    assert (await workflows.page(limit=5, unloaded=True)).total == 1
    await do(put_version(version("h1", now_us=4)))
    assert (await workflows.page(limit=5)).total == 1
    assert await workflows.get("none") is None


async def test_workflows_are_searched_literally(database, do):
    for name in ("a_b", "axb", "c"):
        await do(put_version(version(f"h-{name}", workflow_id=name)))
    workflows = WorkflowRepository(database.readers)
    page = await workflows.page(limit=1, search="A_")
    assert ([row.workflow_id for row in page.workflows], page.total) == (["a_b"], 1)
    assert [row.workflow_id for row in (await workflows.page(limit=2, offset=1)).workflows] == ["axb", "c"]


async def test_of_equal_requests_one_makes_a_session_and_the_others_learn_which(database):
    def creating(n: int) -> UnitOfWork[object]:
        new = NewSession(session_id=f"s-{n}", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1)
        claim = claim_key(tenant="t", key="k", fingerprint="f", subject=f"s-{n}", now_us=1)
        return UnitOfWork(then=in_order(claim, create_session(new)))

    results = await asyncio.gather(*[database.writer.commit(creating(n)) for n in range(5)], return_exceptions=True)
    assert [getattr(error, "subject", None) for error in results[1:]] == ["s-0"] * 4
    assert all(isinstance(error, RequestRepeated) for error in results[1:])
    assert await SessionRepository(database.readers).ref("s-1") is None


async def test_a_key_belongs_to_one_request_of_one_tenant(database, do):
    await do(claim_key(tenant="t", key="k", fingerprint="f", subject="s", now_us=5))
    with pytest.raises(IdempotencyKeyReused):
        await do(claim_key(tenant="t", key="k", fingerprint="other", subject="s", now_us=5))
    await do(claim_key(tenant="u", key="k", fingerprint="other", subject="s2", now_us=6))
    keys = IdempotencyRepository(database.readers)
    assert await keys.subject(tenant="t", key="k", fingerprint="f") == "s"
    assert await keys.subject(tenant="t", key="new", fingerprint="f") is None
    with pytest.raises(IdempotencyKeyReused):
        await keys.subject(tenant="t", key="k", fingerprint="other")
    assert await do(forget_keys(before_us=6)) == 1
    assert await keys.subject(tenant="t", key="k", fingerprint="f") is None
