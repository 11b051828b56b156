"""Every operation is called with what its description allows, and with what it does not allow: the answer must be one
that the description declares, and never a fault of the server."""

import hypothesis
import schemathesis
from hypothesis import HealthCheck
from schemathesis import Case, GenerationMode

from contract.starter_server import StarterServer
from modular_agent.server import create_app
from modular_agent.settings import load_settings

EXAMPLES = 12  # of every operation
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
    if isinstance(case.body, dict):
        if case.body.get("message") is not None:
            case.body.pop("input", None)  # one of the two
        if case.path == "/analytics/reports":
            case.body.pop("end_time", None)  # it may be before the start, or so early that there is no week before
        if case.path == "/workflows/validate" and not case.body:
            case.body["content"] = "name: nothing"
    if case.path.endswith("/bookmarks") and case.method == "POST":
        case.query.setdefault("message_id", "rec_0")  # in the query or in the body
    if case.path == ENDLESS or case.method == "DELETE":
        return
    for name, value in server.ids.items():
        if name in case.path_parameters and len(str(case.path_parameters[name])) % 2 == 0:
            case.path_parameters[name] = value


def test_no_call_made_the_server_fail(server: StarterServer) -> None:
    assert "request failed unexpectedly" not in server.errors()
