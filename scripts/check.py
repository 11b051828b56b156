"""Runs every check that CI runs: `uv run python scripts/check.py`.

First the static ones (format, lint, types, import contracts, generated files), two at a time; each failure is shown
with the command that repeats it. Then the tests, whose closing line is the last one. Exits with 1 if anything failed.

    --static    the static checks only
    --tests     the tests only; what follows goes to pytest
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

STATIC = (
    ("basedpyright",),  # the longest first
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("lint-imports", "--config", "importlinter.toml"),
    ("python", "scripts/reference.py", "--check"),
    ("python", "scripts/openapi.py", "--check"),
    ("python", "scripts/starter.py", "--check"),
    ("python", "scripts/assets.py", "--check"),
)
# A file's tests share what they start (servers, processes), so that they stay together in one worker. The slowest files
# (chaos) are the first in the tree and are to be begun first, so that no worker is left alone with one at the end.
# The profile makes generated examples the same on every machine, with no deadline on a busy one.
SOME_FAILED = 1  # pytest's exit code
TESTS = ("pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-q", "--hypothesis-profile", "ci")


def run(command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


def static_checks() -> list[str]:
    """The commands that failed; their output is shown."""
    failed: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for command, done in zip(STATIC, pool.map(run, STATIC), strict=True):
            name = " ".join(command)
            print(f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {name}", flush=True)
            if done.returncode != 0:
                failed.append(name)
                print(done.stdout + done.stderr, flush=True)
    return failed


def tests(arguments: list[str]) -> int:
    """The tests' exit code; their output goes straight to the terminal.

    Those that failed are run once more, alone: a test with real processes and clocks may miss its moment on a busy
    machine. One that fails again has failed; one that passes then is named above as having failed first.
    """
    code = subprocess.run([BIN / TESTS[0], *TESTS[1:], *arguments], cwd=ROOT, check=False).returncode
    if code != SOME_FAILED:
        return code
    print("Some tests failed beside others; once more, alone:", flush=True)
    again = (BIN / "pytest", "-q", "--last-failed", "--hypothesis-profile", "ci", *arguments)
    return subprocess.run(again, cwd=ROOT, check=False).returncode


def main() -> int:
    arguments = sys.argv[1:]
    failed = [] if "--tests" in arguments else static_checks()
    if failed:
        print(f"{len(failed)} static checks failed; repeat one with: uv run {failed[0]}", flush=True)
    code = 0 if "--static" in arguments else tests([item for item in arguments if item != "--tests"])
    return 1 if failed or code else 0


if __name__ == "__main__":
    sys.exit(main())
