"""LangGraph's own suite for checkpoint savers, on a real database."""

from collections.abc import AsyncGenerator
from pathlib import Path

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from integration.engine.saver_lab import open_savers


async def test_the_saver_passes_all_of_the_suite(tmp_path: Path) -> None:
    made = 0

    @checkpointer_test(name="Saver")
    async def factory() -> AsyncGenerator[BaseCheckpointSaver, None]:
        nonlocal made
        made += 1
        async with open_savers(tmp_path / str(made)) as savers:
            yield savers.saver

    report = await validate(factory)
    failures = [failure for result in report.results.values() for failure in result.failures or ()]
    assert failures == []
    assert report.passed_all()
    assert len([result for result in report.results.values() if result.detected]) == 8
