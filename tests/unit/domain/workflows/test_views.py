import pytest

from modular_agent.domain.workflows.views import LiveState


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, "pending"),
        ({"other": "running"}, "pending"),
        ({"think": "completed"}, "completed"),
        ({"think": "completed", "think.tools": "running"}, "running"),
        ({"think": "completed", "think.tools": "failed"}, "failed"),
        ({"think": "running", "think.tools": "failed"}, "running"),
        ({"think": "interrupted", "thinker": "running"}, "interrupted"),
        ({"think": "cancelled", "think.inner": "completed"}, "cancelled"),
    ],
)
def test_a_node_made_of_several_has_the_state_that_matters_most(states: dict[str, str], expected: str) -> None:
    assert LiveState(session_id="s", node_states=states).of("think") == expected


def test_start_and_end_follow_from_the_run() -> None:
    begun = LiveState(session_id="s", run_id="r", run_status="running", node_states={"a": "running"})
    assert (begun.of("START"), begun.of("END")) == ("completed", "pending")
    ended = LiveState(session_id="s", run_id="r", run_status="completed", node_states={"a": "completed"})
    assert (ended.of("START"), ended.of("END")) == ("completed", "completed")
    fresh = LiveState(session_id="s")
    assert (fresh.of("START"), fresh.of("END")) == ("pending", "pending")
