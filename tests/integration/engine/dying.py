"""A process that starts a run and is killed inside a tool: `python dying.py FOLDER WORKFLOW`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from integration.engine.lab import Lab, settings_of
from modular_agent.domain.sessions.service import CreateRequest
from modular_agent.runtime import open_runtime


async def main(path: Path, workflow: str) -> None:
    async with open_runtime(settings_of(path), environment={}) as runtime:
        lab = Lab(runtime, path)
        lab.session = await runtime.sessions.create(CreateRequest(workflow_config_path=workflow))
        await lab.run("go")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
