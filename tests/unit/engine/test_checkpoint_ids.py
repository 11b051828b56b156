from uuid import UUID

from langgraph.checkpoint.base.id import uuid6

from modular_agent.engine.checkpoint_ids import come_after, next_id


def later(checkpoint_id: UUID, ticks: int) -> str:
    """An id that was made so many units of 100 ns later."""
    time = ((checkpoint_id.int >> 80) << 12 | (checkpoint_id.int >> 64) & 0xFFF) + ticks
    return str(UUID(int=(time >> 12) << 80 | (0x6000 | time & 0xFFF) << 64 | checkpoint_id.int & (1 << 64) - 1))


def test_new_ids_come_after_one_of_a_time_to_come() -> None:
    ahead = later(uuid6(), 10_000_000)
    assert str(uuid6()) < ahead
    come_after(ahead)
    assert ahead < str(uuid6()) < str(uuid6())


def test_an_older_id_and_ids_of_other_kinds_change_nothing() -> None:
    before = str(uuid6())
    for known in ("00000000-0000-6000-8000-000000000000", "saved-by-hand", "ffffffff-ffff-4fff-bfff-ffffffffffff"):
        come_after(known)
    assert before < str(uuid6()) < "2"


def test_our_ids_are_the_librarys_of_the_same_step() -> None:
    for step in (-1, 0, 7, 123_456):
        before, ours, after = str(uuid6()), next_id(step), str(uuid6())
        assert before < ours < after
        assert str(UUID(ours)) == ours
        assert (UUID(ours).version, UUID(ours).variant) == (6, uuid6().variant)
        assert UUID(ours).int >> 48 & 0xFFFF == uuid6(clock_seq=step).int >> 48 & 0xFFFF


def test_our_ids_never_come_twice() -> None:
    made = [next_id(3) for _ in range(2_000)]
    assert made == sorted(set(made))
