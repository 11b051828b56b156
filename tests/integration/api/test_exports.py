"""Exports, over HTTP: every format is read back with what reads it elsewhere."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from integration.api.product import FILES, Product, serving_product, write_files
from modular_agent.domain.history import ExportInterrupted, ExportQuery
from modular_agent.domain.history.formats import COLUMNS
from modular_agent.events import Record, RecordType
from modular_agent.storage.database import Database
from modular_agent.storage.unit_of_work import UnitOfWork

pytestmark = pytest.mark.asyncio(loop_scope="module")
MONTH = 31 * 86_400 * 1_000_000
NASTY = ("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "＝1", "\r\n=1", '"quoted", and\nmore', "plain")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    place = tmp_path_factory.mktemp("exports")
    write_files(place / "configs", FILES)
    async with serving_product(place) as served:
        yield served


async def write(product: Product, session_id: str, *records: Record) -> None:
    session = await product.runtime.sessions.reference(session_id)
    unit: UnitOfWork[None] = UnitOfWork()
    for record in records:
        unit.record(session, record)
    await product.runtime.database.log.append(unit)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session_id(product: Product) -> str:
    made = await product.run("talk", "Hello!")
    for text in NASTY:
        await write(
            product, made, Record(record_type=RecordType.MESSAGE, fields={"message_type": "user", "content": text})
        )
    tool = {"tool_name": "t", "tool_input": {"a": None, "b": True}, "tool_output": ["x", 1.5], "phase": "result"}
    await write(
        product,
        made,
        Record(record_type=RecordType.TOOL_CALL, fields=tool),
        Record(record_type=RecordType.LOG, fields={"message": "```\n````"}),
    )
    return made


async def exported(product: Product, session_id: str, format: str, **params: Any) -> Any:  # noqa: A002
    path = f"/history/sessions/{session_id}/export"
    answer = await product.client.get(path, params={"format": format, **params})
    assert answer.status_code == 200, answer.text
    suffix = {"markdown": "md"}.get(format, format)
    assert answer.headers["content-disposition"] == f'attachment; filename="{session_id}.{suffix}"'
    return answer


async def records(product: Product, session_id: str, **params: Any) -> list[Any]:
    path = f"/history/sessions/{session_id}/records"
    return (await product.json("GET", path, params={"limit": 500, **params}))["records"]


async def test_json_holds_every_record_and_says_how_many(product: Product, session_id: str) -> None:
    answer = await exported(product, session_id, "json")
    body = answer.json()
    assert list(body) == ["session_id", "export_time", "total_records", "records"]
    assert body["records"] == await records(product, session_id)
    assert body["total_records"] == len(body["records"]) == int(answer.headers["x-total-count"])
    plain = await product.client.get(f"/history/sessions/{session_id}/export")
    assert plain.json()["records"] == body["records"]


async def test_json_lines_are_the_bytes_of_the_log(product: Product, session_id: str) -> None:
    answer = await exported(product, session_id, "jsonl")
    await product.runtime.database.mirror.wait_until_mirrored()
    files = sorted((product.root.parent / "data" / "history").rglob(f"{session_id}.jsonl"))
    assert answer.content == b"".join(file.read_bytes() for file in files)


async def test_json_lines_can_be_read_in_again(product: Product, session_id: str, tmp_path: Path) -> None:
    lines = (await exported(product, session_id, "jsonl")).content.splitlines(keepends=True)
    for line in lines:
        month = orjson.loads(line)["timestamp"][:7].replace("-", "")
        folder = tmp_path / "history" / month
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{session_id}.jsonl").open("ab") as file:
            file.write(line)
    async with Database.open(tmp_path) as database:
        made = await database.files.rebuild_records()
        assert (made.sessions, made.records, made.damages) == (1, len(lines), [])
        rows = await database.readers.query("SELECT line FROM records ORDER BY seq")
        assert [line for (line,) in rows] == lines


async def test_csv_is_a_table_without_formulas(product: Product, session_id: str) -> None:
    answer = await exported(product, session_id, "csv")
    assert answer.headers["content-type"].startswith("text/csv")
    text = answer.content.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == list(COLUMNS)
    assert all(len(row) == len(COLUMNS) for row in rows)
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]
    assert [row["seq"] for row in table] == [str(record["seq"]) for record in await records(product, session_id)]
    said = [row["content"] for row in table if row["message_type"] == "user"]
    harmless = ("Hello!", '"quoted", and\nmore', "plain")
    assert said == ["Hello!", *(text if text in harmless else f"'{text}" for text in NASTY)]
    tool = next(row for row in table if row["tool_name"])
    assert orjson.loads(tool["tool_input"]) == {"a": None, "b": True}
    assert orjson.loads(tool["tool_output"]) == ["x", 1.5]
    assert not any(repr(value) in text for value in (None, True, False))


async def test_markdown_shows_messages_and_keeps_code_in_its_fence(product: Product, session_id: str) -> None:
    text = (await exported(product, session_id, "markdown")).text
    assert text.startswith(f"# Session {session_id}\n")
    assert "## assistant\n\n> 你好, friend.\n" in text
    assert '```\n{\n  "a": null,\n  "b": true\n}\n```' in text


async def test_filters_hold_for_every_format(product: Product, session_id: str) -> None:
    everything = await records(product, session_id)
    middle = everything[len(everything) // 2]["timestamp"]
    wanted = [r["seq"] for r in everything if r["record_type"] == "message" and r["timestamp"] < middle]
    assert wanted
    params = {"record_types": "message", "end_time": middle}
    lines = (await exported(product, session_id, "jsonl", **params)).content.splitlines()
    assert [orjson.loads(line)["seq"] for line in lines] == wanted
    body = (await exported(product, session_id, "json", **params)).json()
    assert [record["seq"] for record in body["records"]] == wanted
    rest = (await exported(product, session_id, "json", start_time=middle)).json()
    assert rest["records"] == [r for r in everything if r["timestamp"] >= middle]


async def test_nothing_is_exported_as_nothing(product: Product) -> None:
    session = await product.json("POST", "/sessions/", status=201, json={"workflow_id": "talk"})
    empty = session["session_id"]
    assert (await exported(product, empty, "jsonl")).content == b""
    body = (await exported(product, empty, "json")).json()
    assert (body["total_records"], body["records"]) == (0, [])
    assert (await exported(product, empty, "csv")).text == ",".join(COLUMNS) + "\r\n"
    assert (await exported(product, empty, "markdown")).text.startswith("# Session ")


async def test_pieces_make_one_whole(product: Product) -> None:
    long = await product.run("talk", "Hello!")
    filler = [
        Record(record_type=RecordType.LOG, fields={"message": "x" * (3_000 if n % 100 else 100_000)})
        for n in range(1_300)
    ]
    await write(product, long, *filler)
    body = (await exported(product, long, "json")).json()
    assert [record["seq"] for record in body["records"]] == list(range(1, body["total_records"] + 1))
    rows = list(csv.reader(io.StringIO((await exported(product, long, "csv")).text, newline="")))
    assert len(rows) == body["total_records"] + 1


async def test_what_cannot_be_exported_is_refused(product: Product, session_id: str) -> None:
    path = f"/history/sessions/{session_id}/export"
    await product.problem("GET", path, params={"format": "xml"}, status=422, code="invalid_request")
    await product.problem("GET", path, params={"record_types": "nonsense"}, status=422, code="invalid_request")
    turned = {"start_time": "2026-01-02", "end_time": "2026-01-01"}
    await product.problem("GET", path, params=turned, status=422, code="time_range_reversed")
    await product.problem("GET", "/history/sessions/none/export", status=404, code="session_not_found")


async def test_an_export_whose_session_is_deleted_breaks_off(product: Product) -> None:
    doomed = await product.run("talk", "Hello!")
    filler = [Record(record_type=RecordType.LOG, fields={"message": "x" * 3_000}) for _ in range(1_300)]
    await write(product, doomed, *filler)
    export = await product.runtime.exports.begin(doomed, ExportQuery(format="jsonl"))
    pieces = export.pieces()
    assert await anext(pieces) == b""  # the head
    assert await anext(pieces)
    await product.json("DELETE", f"/sessions/{doomed}")
    with pytest.raises(ExportInterrupted):
        async for _ in pieces:
            pass
