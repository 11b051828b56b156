"""A provider that takes requests and never answers: people are not kept waiting, runs go on when it answers again."""

from pathlib import Path

from chaos.consistency import check_session
from chaos.planned_model import PlannedModel
from chaos.random_workflows import INNER, ROAM_TOOLS
from chaos.workflows import TOOLS
from chaos.world import ChaosServer, until_status
from servers.server_process import eventually


async def test_a_provider_that_hangs_keeps_nobody_from_a_stop_and_runs_go_on_when_it_answers(
    tmp_path: Path, model: PlannedModel
) -> None:
    model.hangs = True
    async with ChaosServer(tmp_path, model.url, workflows={"inner": INNER}, tools=TOOLS + ROAM_TOOLS) as server:
        stopped, patient, killed = [await server.create_session("inner") for _ in range(3)]
        await server.start_run(stopped, "Hello.")
        await asked(model, 1)
        answer = await server.post(f"/sessions/{stopped}/stop", wait=True)
        assert answer["status"] == "stopped"  # while the provider still hangs
        calls = model.calls
        await server.start_run(patient, "Hello.")
        await asked(model, calls + 2)  # after a timeout it is asked again
        await server.start_run(killed, "Hello.")
        await asked(model, calls + 3)
        await server.kill()
        model.hangs = False
        await server.start()
        await until_status(server, [patient, killed])
        for session_id in (patient, killed):
            await check_session(server, session_id)
        records = await server.records(patient)
        assert any("timeout" in str(record).lower() for record in records), "the log says what it waited for"
        assert (await server.start_run(stopped, "Hello again.", mode="wait"))["status"] == "completed"


async def asked(model: PlannedModel, times: int) -> None:
    async def reached() -> bool:
        return model.calls >= times

    await eventually(f"request {times}", reached, within=30)
