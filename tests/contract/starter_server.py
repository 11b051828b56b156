"""The server as a process, with a session of every kind that a call may want to be about."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx

from servers.server_process import SERVE, free_port

__all__ = ["StarterServer"]


class StarterServer:
    """A context manager; `url`, `client`, and `ids`: real values of parameters, `ids["session_id"]` first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"http://127.0.0.1:{free_port()}"
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.ids: dict[str, str] = {}

    def __enter__(self) -> Self:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ},
            "DATA_PATH": str(self.root / "data"),
            "CONFIG_PATH": str(self.root / "configs"),
            "PORT": self.url.rpartition(":")[2],
            "LOG_FILE": "none",
            "SHUTDOWN_GRACE_SECONDS": "1",
        }
        with (self.root / "server.log").open("wb") as log:
            self._process = subprocess.Popen(SERVE, env=environment, stderr=log, stdout=log)
        try:
            self._wait()
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(20)

    def errors(self) -> str:
        """What the server says of itself."""
        return (self.root / "server.log").read_text(errors="replace")

    def _wait(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, self.errors()
            try:
                self.client.get("/health")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"the server does not answer: {self.errors()}")

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def new_session(self) -> str:
        """A session that has run."""
        session_id: str = self.post("/sessions/", {"workflow_config_path": "workflows/react.yaml"})["session_id"]
        run = self.post(f"/sessions/{session_id}/runs", {"message": "Hello!", "mode": "wait"})
        self.ids |= {"session_id": session_id, "run_id": run["run_id"], "workflow_id": "react"}
        return session_id

    def _prepare(self) -> None:
        session_id = self.new_session()
        message = self.client.get(f"/history/sessions/{session_id}/messages").json()["messages"][0]
        made = self.post(f"/history/sessions/{session_id}/bookmarks", {"message_id": message["record_id"]})
        self.ids["bookmark_id"] = made["bookmark_id"]
        self.ids["message_id"] = message["record_id"]
        self.ids["report_id"] = self.post("/analytics/reports", {})["report_id"]
        failing = {"message": "Hello!", "mode": "wait", "limits": {"max_tokens": 1, "on_exceed": "fail"}}
        self.post(f"/sessions/{session_id}/runs", failing)
        error = self.client.get("/errors").json()["errors"][0]
        self.ids |= {"error_id": error["error_id"], "fingerprint": error["fingerprint"]}
        (version,) = self.client.get("/workflows/react/versions").json()["versions"]
        self.ids |= {"from": version["content_hash"], "to": version["content_hash"]}
        self.ids["key_id"] = self.post("/keys", {"name": "contract"})["key_id"]
