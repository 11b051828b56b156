"""What an error looks like on the wire: problem details (RFC 9457) with a stable code."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field

from modular_agent.errors import Fault, Language
from modular_agent.kit.late_model import LateModel

__all__ = ["MEDIA_TYPE", "Problem", "ProblemPlace", "faults_json", "problem_type"]

MEDIA_TYPE: Final = "application/problem+json"


class ProblemPlace(LateModel):
    """One thing wrong with the input, and where."""

    code: str = Field(description="What is wrong, for programs.", examples=["out_of_range"])
    message: str = Field(description="What is wrong, for people.", examples=["must be at most 100"])
    path: str = Field(
        description="Where: `/query/name`, `/body/key/0/...`, or the key path in a file (`nodes.think.model`).",
        examples=["/query/page_size"],
    )
    file: str | None = Field(None, description="The file, relative to the configs root.")
    line: int | None = Field(None, description="The line, from 1.")
    column: int | None = Field(None, description="The column, from 1.")
    suggestion: str | None = Field(None, description="The likely name, for a typo.")


class Problem(LateModel):
    """Why a request was not served. `code` is stable; `detail` and the messages of `errors` follow `Accept-Language`
    (English, Chinese)."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    type: str = Field(
        description="The kind of problem, as a URN of its code.", examples=["urn:modular-agent:problem:not_found"]
    )
    title: str = Field(description="The kind of problem, for people.", examples=["Not found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What happened, for people.", examples=["There is nothing at /nowhere."])
    instance: str = Field(description="The path of the request.", examples=["/nowhere"])
    code: str = Field(description="The stable code, for programs.", examples=["not_found"])
    request_id: str | None = Field(
        None, description="What the server's logs call this request.", examples=["req_1f73e8c09ab4"]
    )
    errors: list[ProblemPlace] | None = Field(None, description="For bad input: every fault, with its place.")


def problem_type(code: str) -> str:
    """The `type` of a problem with this code."""
    return f"urn:modular-agent:problem:{code}"


def faults_json(error: object, language: Language) -> list[Any]:
    """The faults of an error that has some, as `errors[]`: `code`, `message`, `path`, and what else is known."""
    faults: Sequence[Fault] = getattr(error, "faults", ())
    return [{name: value for name, value in fault.fields(language).items() if value is not None} for fault in faults]
