import pytest

from modular_agent.engine.tools.builtin.registry import build_builtin
from modular_agent.engine.tools.builtin.tool import Setup
from modular_agent.engine.tools.port import ToolContext

MOMENT = 1_761_155_280_000_000  # 2025-10-22T17:48:00Z


class _Clock:
    def now_us(self) -> int:
        return MOMENT

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("options", "arguments", "content"),
    [
        ({}, {}, "2025-10-22T17:48:00+00:00 (Wednesday, 22 October 2025, 17:48:00 in UTC)"),
        (
            {},
            {"timezone": "Asia/Shanghai"},
            "2025-10-23T01:48:00+08:00 (Thursday, 23 October 2025, 01:48:00 in Asia/Shanghai)",
        ),
        (
            {"timezone": "Europe/Berlin"},
            {},
            "2025-10-22T19:48:00+02:00 (Wednesday, 22 October 2025, 19:48:00 in Europe/Berlin)",
        ),
    ],
)
async def test_it_tells_the_time(
    context: ToolContext, options: dict[str, str], arguments: dict[str, str], content: str
) -> None:
    tool = build_builtin("builtin.current_time", options, Setup(name="now", root=context.files, clock=_Clock()))
    outcome = await tool.call(arguments, context)
    assert outcome.content == content
    assert outcome.success


@pytest.mark.parametrize("zone", ["Europe/Berln", "../../etc/passwd", "/etc/passwd", "", "Mars", "Europe"])
async def test_an_unknown_zone_is_an_outcome(context: ToolContext, zone: str) -> None:
    tool = build_builtin("builtin.current_time", {}, Setup(name="now", root=context.files, clock=_Clock()))
    outcome = await tool.call({"timezone": zone}, context)
    if zone:
        assert not outcome.success
        assert "IANA" in outcome.content or "Did you mean" in outcome.content
    else:
        assert "UTC" in outcome.content
