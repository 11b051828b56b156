"""`builtin.current_time`: the date and time in a time zone."""

import asyncio
import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from modular_agent.engine.tools.builtin.tool import BuiltinTool, Options, Refused, Setup
from modular_agent.engine.tools.port import ToolContext
from modular_agent.kit.clock import utc_datetime

__all__ = ["CurrentTimeOptions", "current_time"]

DESCRIPTION: Final = "Tells the current date and time in a time zone."
# Not strftime: its names follow the locale of the process.
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class CurrentTimeOptions(Options):
    """`timezone` is the IANA name that is used when the model names none."""

    timezone: str = "UTC"


def current_time(options: CurrentTimeOptions, setup: Setup) -> BuiltinTool:
    """The tool that tells the time of `setup.clock`."""

    async def run(arguments: Mapping[str, Any], context: ToolContext) -> str:
        del context
        name = arguments.get("timezone") or options.timezone
        zone = await asyncio.to_thread(_zone, name)
        return _described(utc_datetime(setup.clock.now_us()).astimezone(zone), name)

    return BuiltinTool(setup, description=DESCRIPTION, parameters=_parameters(options.timezone), run=run)


def _parameters(default: str) -> Mapping[str, Any]:
    description = f"An IANA time zone such as Europe/Berlin or Asia/Shanghai; {default} when left out"
    return {
        "type": "object",
        "properties": {"timezone": {"type": "string", "description": description}},
        "additionalProperties": False,
    }


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = difflib.get_close_matches(name, available_timezones(), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Use an IANA name such as Europe/Berlin."
        raise Refused(f"There is no time zone {name!r}.{hint}") from None


def _described(moment: datetime, zone: str) -> str:
    day = f"{DAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year}"
    return f"{moment.isoformat(timespec='seconds')} ({day}, {moment:%H:%M:%S} in {zone})"
