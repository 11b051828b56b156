import json
import subprocess
import sys
import time
from typing import Any

from servers.model_server import ModelServer

QUESTION = "What is 17 * 23?"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_answer_goes_to_standard_output_and_the_rest_beside_it(project: Any) -> None:
    done = project.run("run", "configs/workflows/react.yaml", QUESTION)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The result is 391.\n"
    assert '→ calculator(expression="17 * 23")' in done.stderr
    assert "← 391" in done.stderr
    assert "completed · think → act → think · " in done.stderr
    assert "cost unpriced" in done.stderr
    assert "$0" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_an_open_question_leaves_the_run_paused_until_it_is_answered(project: Any) -> None:
    first = project.run("run", "orders", "Please refund 700 for A-1002.")
    assert first.returncode == 3
    assert "? May refund be called?" in first.stderr
    (session_id,) = project.session_ids()
    assert f"modular-agent run --session {session_id}" in first.stderr
    second = project.run("run", "--session", session_id, stdin="maybe\ny\n\n")
    assert second.returncode == 0, second.stderr
    assert "✗ cannot be used: maybe" in second.stderr
    assert second.stdout == "700.00 EUR were paid back for order A-1002.\n"
    (refunds,) = (project.folder / "data" / "files").rglob("refunds.jsonl")
    assert json.loads(refunds.read_text())["amount"] == 700.0


def test_answers_can_be_given_on_the_command_line(project: Any) -> None:
    answers = ("--answer", '{"approve": false, "comment": "offer tea"}', "--answer", '{"approve": true}')
    done = project.run("run", "replies", "My kettle arrived broken!", *answers, "--json")
    assert done.returncode == 0, done.stderr
    said = [r["content"] for r in lines(done.stdout) if r["record_type"] == "message" and r["node"] == "send"]
    assert len(said) == 1
    assert "offer tea" in said[0]


def test_an_answer_that_does_not_fit_the_form_is_refused(project: Any) -> None:
    done = project.run("run", "replies", "It is broken!", "--answer", '{"approve": "perhaps"}', "--json")
    assert done.returncode == 2
    assert "error[answer_invalid]" in done.stderr


def test_json_asks_nothing(project: Any) -> None:
    done = project.run("run", "orders", "Please refund 700 for A-1002.", "--json", stdin="y\ny\ny\n")
    assert done.returncode == 3
    assert lines(done.stdout)[-1]["status"] == "paused"


def test_a_reached_limit_asks_for_a_higher_one(project: Any) -> None:
    text = (project.folder / "configs/workflows/react.yaml").read_text()
    project.write("configs/workflows/tight.yaml", text.replace("max_iterations: 10", "max_iterations: 1"))
    done = project.run("run", "tight", QUESTION, stdin="5\n")
    assert done.returncode == 0, done.stderr
    assert "The limit max_iterations of 1 is reached (1 used)" in done.stderr
    assert done.stdout == "The result is 391.\n"
    refused = project.run("run", "tight", QUESTION, stdin="\n")
    assert refused.returncode == 1
    assert "error[limit_reached]" in refused.stderr


def test_a_failed_run_says_why_and_can_be_tried_again(project: Any) -> None:
    done = project.run("run", "slow", "fail")
    assert done.returncode == 1
    assert "failed · first → second" in done.stderr
    assert "no such key" in done.stderr
    assert "Traceback" not in done.stderr
    (session_id,) = project.session_ids()
    assert f"Try again with: modular-agent run --session {session_id}" in done.stderr
    again = project.run("run", "--session", session_id, "--json")
    nodes = [r["node"] for r in lines(again.stdout) if r["record_type"] == "step" and r["phase"] == "start"]
    assert nodes == ["second"]


def test_the_state_is_set_by_json(project: Any) -> None:
    done = project.run("run", "react", "--state", 'messages=[{"role": "user", "content": "What is 2 * 21?"}]')
    assert done.stdout == "The result is 42.\n"
    wrong = project.run("run", "slow", "hi", "--state", "note=kept")
    assert wrong.returncode == 2
    assert "error[argument_invalid]" in wrong.stderr
    unfit = project.run("run", "slow", "hi", "--state", "note=1")
    assert unfit.returncode == 2
    assert "state.note: 1 is not of type 'string'" in unfit.stderr


def test_a_run_that_a_killed_process_left_behind_goes_on(project: Any) -> None:
    command = [sys.executable, "-m", "modular_agent", "run", "slow", "hello", "--json"]
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        record = json.loads(line)
        if record["record_type"] == "step" and record["phase"] == "end":
            break
    process.kill()
    process.communicate()
    (session_id,) = project.session_ids()
    started = time.monotonic()
    done = project.run("run", "--session", session_id, "--json")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 20
    shown = project.json("sessions", "show", session_id, "--records", "1000", "--json")
    assert [record["seq"] for record in shown["records"]] == list(range(1, shown["last_seq"] + 1))
    starts = [r["node"] for r in shown["records"] if r["record_type"] == "step" and r["phase"] == "start"]
    assert starts.count("first") == 1


def test_json_prints_the_lines_of_the_log_and_a_session_goes_on_where_it_was(project: Any) -> None:
    done = project.run("run", "react", QUESTION, "--json")
    records = lines(done.stdout)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert records[-1]["status"] == "completed"
    (file,) = (project.folder / "data" / "history").rglob("*.jsonl")
    assert file.read_text(encoding="utf-8") == done.stdout
    (session_id,) = project.session_ids()

    more = project.run("run", "react", "-", "--session", session_id, "--json", stdin="And 2 * 3?\n")
    assert file.read_text(encoding="utf-8") == done.stdout + more.stdout
    asked = [record["messages"]["count"] for record in lines(more.stdout) if record["record_type"] == "llm_request"]
    assert asked == [5, 7]

    for arguments, code in [
        (("run", "--session", session_id), "nothing_to_continue"),
        (("run", "research", "x", "--session", session_id), "session_of_another_workflow"),
    ]:
        refused = project.run(*arguments)
        assert refused.returncode == 2
        assert f"error[{code}]" in refused.stderr


def test_what_cannot_be_run_is_told_with_its_code_in_the_persons_language(project: Any) -> None:
    for arguments, text in [
        (("run", "react"), "error[input_missing]: 请用引号给出输入"),
        (("run", "nosuch", "x"), "error[file_not_found]: 配置根目录下没有文件 nosuch。"),
        (("run", "--session", "nosuch", "x"), "error[session_not_found]: 会话 nosuch 不存在。"),
    ]:
        done = project.run(*arguments, env={"LANG": "zh_CN.UTF-8"})
        assert done.returncode == 2
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_the_starter_runs_against_an_openai_endpoint(project: Any, model_server: ModelServer) -> None:
    env = {"OPENAI_BASE_URL": model_server.openai_url, "OPENAI_API_KEY": "sk-not-a-secret", "MODEL": "local-1"}
    done = project.run("run", "react", QUESTION, env=env)
    assert "391" in done.stdout
    assert "→ calculator" in done.stderr
    assert {request.body["model"] for request in model_server.requests} == {"local-1"}
    assert model_server.requests[0].headers["authorization"] == "Bearer sk-not-a-secret"
    model_server.requests.clear()

    research = project.run("run", "research", "Is tea healthy?", "--model", "another-2", "--json", env=env)
    assert research.returncode == 0, research.stderr
    answered = [r["node"] for r in lines(research.stdout) if r["record_type"] == "llm_response"]
    assert (answered[0], answered[-1]) == ("plan", "answer")
    assert "find.item" in answered
    assert {request.body["model"] for request in model_server.requests} == {"another-2"}
    assert "sk-not-a-secret" not in research.stdout


def test_who_reads_no_more_is_told_nothing_more(project: Any) -> None:
    """As `modular-agent run ... --json | true`."""
    done = project.run("run", "react", QUESTION, "--json", unread=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
