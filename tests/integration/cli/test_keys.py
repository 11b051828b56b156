"""`keys`: here where nobody owns the data path, through the server where one does; and no secret in any log."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from integration.cli.conftest import PATIENCE, PROGRAM, Project, Served


def test_keys_are_made_listed_and_revoked(project: Project) -> None:
    assert project.run("keys", "list").stderr.strip() == "No keys."
    made = project.run("keys", "create", "web shop", "--per-day", "max_cost_usd=5", "--per-run", "max_seconds=10m")
    secret = made.stdout.strip()
    assert (made.returncode, len(secret)) == (0, 56), made.stderr
    assert "not shown again" in made.stderr
    [listed] = project.json("keys", "list", "--json")["keys"]
    assert (listed["name"], listed["revoked_at"]) == ("web shop", None)
    assert listed["limits"] == {"per_day": {"max_cost_usd": 5}, "per_run": {"max_seconds": 600.0}}
    assert secret.startswith(listed["prefix"])
    assert "in use" in project.run("keys", "list").stdout
    revoked = project.run("keys", "revoke", listed["prefix"], env={"LANG": "zh_CN.UTF-8"})
    assert "已撤销" in revoked.stdout
    [again] = project.json("keys", "list", "--json")["keys"]
    assert again["revoked_at"] is not None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "x", "--per-day", "max_tokens"), "argument_invalid"),
        (("create", "x", "--total", "max_tokens=many"), "limits_invalid"),
        (("create", "x", "--total", "max_gold=1"), "limits_invalid"),
        (("revoke", "mak_nosuch"), "api_key_not_found"),
        (("create", "x", "--server", "http://127.0.0.1:1"), "server_unreachable"),
        (("create", "x", "--server", "file:///etc/passwd"), "server_unreachable"),
    ],
)
def test_what_cannot_be_done_is_said(project: Project, arguments: tuple[str, ...], code: str) -> None:
    done = project.run("keys", *arguments)
    assert done.returncode != 0
    assert f"error[{code}]" in done.stderr
    assert project.json("keys", "list", "--json") == {"keys": []}


def test_beside_a_server_the_server_does_it_and_no_secret_is_logged(
    project: Project, serve: Callable[..., Served]
) -> None:
    project.environment["LOG_LEVEL"] = "DEBUG"
    served = serve()
    refused = project.run("keys", "create", "x", env={"PORT": "1"})
    assert "error[server_unreachable]" in refused.stderr
    port = served.url.rpartition(":")[2]
    secret = project.run("keys", "create", "shop", env={"PORT": port}).stdout.strip()
    request = urllib.request.Request(f"{served.url}/budgets", headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert len(json.load(answer)["budgets"]) > 0
    bad = project.run("keys", "create", "x", "--per-day", "max_tokens=0", "--server", served.url)
    assert "error[limits_invalid]" in bad.stderr  # what can be checked here is
    [key] = project.json("keys", "list", "--json")["keys"]
    assert "revoked" in project.run("keys", "revoke", key["key_id"], "--server", served.url).stdout
    gone = project.run("keys", "revoke", "key_nosuch", "--server", served.url)
    assert "error[server_refused]" in gone.stderr
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE)
    caught.value.close()
    assert caught.value.code == 401
    served.process.send_signal(signal.SIGTERM)
    out, errors = served.process.communicate(timeout=PATIENCE)
    assert "/budgets" in errors
    assert secret not in out + errors
    assert secret[-32:] not in out + errors  # its random part, which may hold any character of a URL


def test_making_a_key_imports_no_engine(project: Project) -> None:
    code = (
        "import sys; from modular_agent.cli.app import main; main(['keys', 'create', 'x'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'langgraph', 'fastapi', 'mcp'}))"
    )
    done = subprocess.run(
        [PROGRAM.parent / "python", "-c", code],
        cwd=project.folder,
        env={**os.environ, **project.environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", sys.version
