from dataclasses import asdict, replace

from modular_agent.events import Record, RecordType


def test_a_record_made_without_its_constructor_is_the_same() -> None:
    quick = Record.of(RecordType.STEP, "run_1", "agent", {"phase": "start"})
    usual = Record(record_type=RecordType.STEP, run_id="run_1", node="agent", fields={"phase": "start"})
    assert usual.record_id != quick.record_id
    assert asdict(replace(usual, record_id=quick.record_id)) == asdict(quick)
