"""Answers wait for the client to read, and whoever makes them waits with them."""

import asyncio

from modular_agent.realtime.outbox import Outbox


async def test_room_is_given_again_when_the_answers_were_taken() -> None:
    added: list[int] = []
    outbox = Outbox(max_bytes=10, on_add=lambda: added.append(1))
    outbox.add(b"12345")
    await asyncio.wait_for(outbox.room(), 1)
    outbox.add(b"67890")
    waiting = asyncio.ensure_future(outbox.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert outbox.take() == b"12345"
    await asyncio.wait_for(waiting, 1)
    assert [outbox.take(), outbox.take()] == [b"67890", None]
    assert len(added) == 2
