"""Writes to the logs of some sessions until it is killed; prints the highest `seq` that each commit made durable.

`writing.py DATA_PATH [hold]`: with `hold` it only opens the database, says so, and waits for its input to end.
"""

import asyncio
import random
import sys
from pathlib import Path

from modular_agent.events import Record, RecordType, SessionRef
from modular_agent.storage.database import Database
from modular_agent.storage.errors import DataPathInUse
from modular_agent.storage.repositories.sessions import NewSession, SessionRepository, create_session
from modular_agent.storage.unit_of_work import Counters, UnitOfWork

SESSIONS = 4


async def session(database: Database, number: int) -> SessionRef:
    found = await SessionRepository(database.readers).ref(f"s-{number}")
    if found is not None:
        return found
    new = NewSession(
        session_id=f"s-{number}", workflow_id="w", workflow_version="h", workflow_config_path="p", now_us=1
    )
    made = (await database.writer.commit(UnitOfWork(then=create_session(new)))).result
    assert made is not None
    return made


async def write(database: Database, ref: SessionRef) -> None:
    while True:
        unit: UnitOfWork[None] = UnitOfWork()
        count = random.randint(1, 6)
        for _ in range(count):
            fields = {"content": "消息" * random.randint(1, 400)}
            unit.record(ref, Record(record_type=RecordType.MESSAGE, fields=fields))
        unit.count(ref, Counters(messages=count))
        done = await database.log.append(unit)
        print(ref.session_id, done.records[-1].seq, flush=True)
        if random.random() < 0.2:
            await asyncio.sleep(random.random() * 0.01)


async def main(data_path: Path, *, hold: bool) -> None:
    try:
        async with Database.open(data_path) as database:
            if hold:
                print("open", flush=True)
                await asyncio.to_thread(sys.stdin.read)
                return
            refs = [await session(database, number) for number in range(SESSIONS)]
            await asyncio.gather(*[write(database, ref) for ref in refs for _ in range(2)])
    except DataPathInUse as error:
        print(error.code, error.pid, flush=True)


asyncio.run(main(Path(sys.argv[1]), hold="hold" in sys.argv[2:]))
