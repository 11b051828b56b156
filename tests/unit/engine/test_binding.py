"""What a run knows of its writes."""

import asyncio
from collections.abc import Awaitable

import pytest

from modular_agent.engine.binding import Binding
from modular_agent.engine.store import Facts, RunKey
from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.errors import StaleEpoch


async def test_what_is_to_follow_the_records_waits_for_them() -> None:
    """A piece of a message is told after the records before it, even when a model answers faster than a commit."""
    writes: list[asyncio.Future[object]] = []

    def commit(run: RunKey, facts: Facts) -> Awaitable[object]:
        writes.append(asyncio.Future[object]())
        return writes[-1]

    binding = Binding(RunKey(SessionRef(1, "s"), "run_1", 1), commit)
    record = Record(record_type=RecordType.LOG, fields={})
    seen: list[str] = []
    binding.afterwards(lambda: seen.append("nothing was given"))
    assert seen == ["nothing was given"]
    binding.gather(Facts(records=[record]))
    binding.afterwards(lambda: seen.append("gathered"))
    binding.flush()
    binding.afterwards(lambda: seen.append("handed over"))
    binding.gather(Facts(records=[record]))
    binding.afterwards(lambda: seen.append("gathered anew"))
    binding.flush()
    assert seen == ["nothing was given"]
    writes[0].set_result(None)
    await asyncio.sleep(0)
    assert seen == ["nothing was given", "gathered", "handed over"]
    writes[1].set_exception(StaleEpoch(run_id="run_1", epoch=1))
    await asyncio.sleep(0)
    binding.afterwards(lambda: seen.append("refused"))
    assert seen == ["nothing was given", "gathered", "handed over"]


async def test_a_write_that_was_refused_this_very_moment_is_known() -> None:
    def never(run: RunKey, facts: Facts) -> Awaitable[object]:
        raise AssertionError

    binding = Binding(RunKey(SessionRef(1, "s"), "run_1", 1), never)
    refused, done = asyncio.Future[object](), asyncio.Future[object]()
    binding.track(refused)
    binding.track(done)
    refused.set_exception(StaleEpoch(run_id="run_1", epoch=1))
    done.set_result(None)
    with pytest.raises(StaleEpoch):
        await binding.durable()
