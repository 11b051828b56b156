"""Copies the starter configuration, `configs/`, into the package, where `modular-agent init` finds it.

    uv run python scripts/starter.py            copies what differs, removes what is gone
    uv run python scripts/starter.py --check    exits with 1 and says what to run when the two differ

`configs/` is the one to edit. Only files that git knows count (`git add` new ones first): what a server on this clone
wrote there while somebody tried it out is not part of the starter.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "configs"
TARGET = ROOT / "src" / "modular_agent" / "starter" / "configs"


def tracked() -> dict[str, bytes]:
    """The files of the starter by their path below `configs/`."""
    listed = subprocess.run(["git", "ls-files", "-z", "configs"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive instead of a clone
        paths = [path for path in SOURCE.rglob("*") if "__pycache__" not in path.parts]
    return {path.relative_to(SOURCE).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def shipped() -> dict[str, bytes]:
    """The files of the copy, by the same paths."""
    paths = [path for path in TARGET.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(TARGET).as_posix(): path.read_bytes() for path in paths}


def main() -> int:
    wanted, present = tracked(), shipped()
    if wanted == present:
        return 0
    if "--check" in sys.argv:
        differing = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
        print(f"the package's starter differs from configs/ ({', '.join(differing)})")
        print("run: uv run python scripts/starter.py")
        return 1
    shutil.rmtree(TARGET, ignore_errors=True)
    for name, content in wanted.items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(f"{len(wanted)} files copied to {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
