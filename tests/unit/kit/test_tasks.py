import asyncio

import pytest
import structlog

from modular_agent.kit.tasks import OwnedTasks, TasksClosed, TooManyTasks


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("gone")


async def test_a_task_gives_its_result_to_whoever_awaits_it() -> None:
    async def answer() -> int:
        return 42

    async with OwnedTasks("test") as tasks:
        assert await tasks.start(answer(), name="answer") == 42
        await asyncio.sleep(0)
        assert len(tasks) == 0


async def test_a_failure_is_logged_and_leaves_the_others_alone() -> None:
    with structlog.testing.capture_logs() as lines:
        async with OwnedTasks("test") as tasks:
            other = tasks.start(forever(), name="other")
            failing = tasks.start(fail(), name="failing")
            await asyncio.wait([failing])
            await asyncio.sleep(0)
            assert not other.done()
    assert [(line["event"], line["task"]) for line in lines] == [("task failed", "test/failing")]
    assert isinstance(lines[0]["exc_info"], LookupError)


async def test_leaving_cancels_and_awaits_every_task() -> None:
    ended: list[str] = []

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.01)
            ended.append("clean")

    async with OwnedTasks("test") as tasks:
        task = tasks.start(slow_to_end(), name="slow")
        await asyncio.sleep(0)
    assert task.cancelled()
    assert ended == ["clean"]


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await forever()

    async with OwnedTasks("test") as tasks:
        task = tasks.start(stubborn(), name="stubborn")
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_within_the_grace_a_task_ends_by_itself() -> None:
    async def brief() -> str:
        await asyncio.sleep(0.02)
        return "done"

    async with OwnedTasks("test", grace=5) as tasks:
        task = tasks.start(brief(), name="brief")
    assert task.result() == "done"


async def test_a_closed_owner_takes_no_task() -> None:
    tasks = OwnedTasks("test")
    await tasks.close()
    with pytest.raises(TasksClosed):
        tasks.start(forever(), name="late")


async def test_more_tasks_than_the_limit_are_refused() -> None:
    async with OwnedTasks("test", limit=1) as tasks:
        tasks.start(forever(), name="first")
        with pytest.raises(TooManyTasks):
            tasks.start(forever(), name="second")


async def test_a_task_may_close_its_owner() -> None:
    tasks = OwnedTasks("test")
    task = tasks.start(tasks.close(), name="closer")
    await asyncio.wait_for(task, 1)
