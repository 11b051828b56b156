"""Every operation is called with what its description allows, and with what it does not allow: the answer must be one
that the description declares, and never a fault of the server."""

from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from contract.starter_server import StarterServer
from modular_agent.server import create_app
from modular_agent.settings import load_settings

EXAMPLES = 12  # of every operation
NAMED_IN_QUERIES = ("message_id", "from", "to")  # others would only narrow a list
ENDLESS = "/sessions/{session_id}/events"  # follows a session for as long as there is somebody who reads

schema = schemathesis.openapi.from_dict(create_app(load_settings({}, env_file=None)).openapi())
# What a description in JSON Schema allows may be refused for what it means (400: a workflow with faults, a file that is
# not there) or for how things stand (404, 409), but never as malformed (422).
schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "404", "409", "428", "503"]


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
def test_every_answer_is_one_that_is_declared(case: Case, server: StarterServer) -> None:
    if is_allowed(case):
        mean_something_real(case, server)
    case.call_and_validate(base_url=server.url, timeout=20)


def is_allowed(case: Case) -> bool:
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


def mean_something_real(case: Case, server: StarterServer) -> None:
    """Half of the allowed calls are about things that exist, and all of them hold to what a schema cannot say."""
    case.query.pop("cursor", None)  # only the server can make one
    if str(case.query.get("start_time", "")) > str(case.query.get("end_time", "~")):
        del case.query["start_time"]
    if case.path == "/analytics/report":
        case.query.pop("end_time", None)  # so early that there is no week before it
    keep_to_64_bits(case.body)  # where anything may stand, a schema says nothing of integers in it
    if isinstance(case.body, dict):
        if case.body.get("message") is not None:
            case.body.pop("input", None)  # one of the two
        if case.path == "/analytics/reports":
            case.body.pop("end_time", None)  # it may be before the start, or so early that there is no week before
        if case.path == "/workflows/validate" and not case.body:
            case.body["content"] = "name: nothing"
    if case.path.endswith("/bookmarks") and case.method == "POST":
        case.query.setdefault("message_id", "rec_0")  # in the query or in the body
    if case.path == ENDLESS:
        return
    ids = doomed(case.path, server) if case.method == "DELETE" else server.ids
    real = len(str(sorted(case.path_parameters.items()))) % 2 == 0
    for name, value in ids.items() if real else ():
        for given in (case.path_parameters, case.query):
            if name in given and (given is case.path_parameters or name in NAMED_IN_QUERIES):
                given[name] = value


def keep_to_64_bits(value: Any) -> None:
    """Changes the integers in a JSON value that are too large to be taken."""
    places: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, each in list(places):
        if isinstance(each, int) and not isinstance(each, bool):
            value[place] = max(-(2**63), min(each, 2**63 - 1))
        else:
            keep_to_64_bits(each)


def doomed(path: str, server: StarterServer) -> dict[str, str]:
    """What a call that deletes may be about: made for it."""
    if path == "/sessions/{session_id}":
        return {"session_id": server.post("/sessions/", {"workflow_config_path": "workflows/react.yaml"})["session_id"]}
    if path == "/analytics/reports/{report_id}":
        return {"report_id": server.post("/analytics/reports", {})["report_id"]}
    if path == "/history/bookmarks/{bookmark_id}":
        about = {"message_id": server.ids["message_id"]}
        made = server.post(f"/history/sessions/{server.ids['session_id']}/bookmarks", about)
        return {"bookmark_id": made["bookmark_id"]}
    return {}


def test_no_check_is_left_out() -> None:
    load_all_checks()
    names = set(CHECKS.get_all_names())
    assert len(names) >= 13
    assert {name for name in names if not getattr(schema.config.checks, name).enabled} == set()


def test_no_call_made_the_server_fail(server: StarterServer) -> None:
    assert "request failed unexpectedly" not in server.errors()
