"""An exception that nobody meant, in a request of the real application with its real log."""

import asyncio
import logging
from pathlib import Path

import httpx

from modular_agent.server import create_app
from modular_agent.settings import load_settings


async def boom() -> None:
    raise RuntimeError("nobody meant this, password=hunter22hunter")


async def test_what_the_log_says_with_a_trace_is_in_the_list_of_errors(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    given = {"DATA_PATH": str(tmp_path / "data"), "CONFIG_PATH": str(tmp_path / "configs"), "LOG_FILE": "none"}
    app = create_app(load_settings({**given, "DEBUG": "true"}, env_file=None))
    app.add_api_route("/boom", boom)
    handlers = len(logging.getLogger().handlers)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert (await client.get("/boom")).status_code == 500
            task = asyncio.get_running_loop().run_in_executor(None, log_in_a_thread)
            await task
            async with asyncio.timeout(5):
                while (found := (await client.get("/errors")).json())["total"] < 2:
                    await asyncio.sleep(0.01)
            by_type = {error["error_type"]: error for error in found["errors"]}
            assert by_type.keys() == {"RuntimeError", "KeyError"}
            assert all(error["session_id"] is None for error in found["errors"])
            assert "hunter22" not in str(found)
            shown = (await client.get(f"/errors/{by_type['RuntimeError']['error_id']}")).json()
            assert "in boom" in shown["stack_trace"]
    assert len(logging.getLogger().handlers) == handlers


def log_in_a_thread() -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("some.library").exception("a background task failed")
