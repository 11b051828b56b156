"""Writes docs/openapi.json, the contract of the HTTP API, from the code; `--check` only says whether it is true.

uv run python scripts/openapi.py            writes it
uv run python scripts/openapi.py --check    exits with 1 and says what to run when it is not up to date
"""

import sys
from pathlib import Path
from typing import Any

import orjson

from modular_agent.server import create_app
from modular_agent.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "openapi.json"
SHAPE = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def contract() -> dict[str, Any]:
    """What `/openapi.json` answers with the default settings, whatever the environment says."""
    return create_app(load_settings({}, env_file=None)).openapi()


def differences(kept: Any, now: Any, place: str = "") -> list[str]:
    """Where two JSON documents differ, as JSON Pointers."""
    if isinstance(kept, dict) and isinstance(now, dict):
        names = sorted(kept.keys() | now.keys())
        steps = ((name.replace("~", "~0").replace("/", "~1"), kept.get(name), now.get(name)) for name in names)
        return [found for step, old, new in steps for found in differences(old, new, f"{place}/{step}")]
    return [] if kept == now else [place]


def main() -> int:
    now = contract()
    text = orjson.dumps(now, option=SHAPE)
    kept = DOCUMENT.read_bytes() if DOCUMENT.exists() else b"{}"
    if text == kept:
        return 0
    name = DOCUMENT.relative_to(ROOT)
    if "--check" not in sys.argv:
        DOCUMENT.write_bytes(text)
        print(f"{name} written")
        return 0
    print(f"{name} does not say what the code says; run: uv run python scripts/openapi.py")
    print("\n".join(differences(orjson.loads(kept), now)[:20]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
