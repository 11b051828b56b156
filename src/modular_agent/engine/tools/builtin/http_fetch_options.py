"""What a configuration may say of `builtin.http_fetch`."""

from typing import Literal

from pydantic import Field

from modular_agent.engine.tools.builtin.tool import Options

__all__ = ["HttpFetchOptions"]


class HttpFetchOptions(Options):
    """`hosts` limits the tool to these names (`*.example.com` for what is below one); empty means any public one.

    `private_hosts` are names or addresses that may be reached though their addresses are private; `allow_private`
    lets every address be reached. `max_bytes` bounds what is read of a body, after decompression.
    """

    methods: list[Literal["GET", "HEAD"]] = Field(default=["GET", "HEAD"], min_length=1)
    hosts: list[str] = Field(default=[])
    allow_private: bool = False
    private_hosts: list[str] = Field(default=[])
    max_bytes: int = Field(default=1_048_576, ge=1_024, le=67_108_864)
    timeout: float = Field(default=20.0, gt=0, le=300, strict=False)
    user_agent: str = "modular-agent"
