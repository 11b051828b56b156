import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = """
print("the package runs")
from sample.part import number
total = number + 1
"""


def run(folder: Path, code: str) -> list[str]:
    """What `code` prints in a process of its own, with the package `sample` found late."""
    (folder / "sample" / "inner").mkdir(parents=True)
    (folder / "sample" / "__init__.py").write_text(PACKAGE)
    (folder / "sample" / "part.py").write_text("number = 41")
    (folder / "sample" / "inner" / "__init__.py").write_text("")
    (folder / "sample" / "inner" / "deep.py").write_text("from sample.part import number as found")
    begin = "from modular_agent.kit.late_packages import LatePackages\nLatePackages(['sample']).install()\n"
    done = subprocess.run([sys.executable, "-c", begin + code], cwd=folder, capture_output=True, text=True, check=False)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()[-1:]]


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("import sample.inner.deep\nprint(sample.inner.deep.found)", ["41"]),
        ("from sample.part import number\nprint(number)", ["41"]),
        ("import sample.part\nprint('late', sample.total)", ["the package runs", "late 42"]),
        ("from sample import total\nprint(total)", ["the package runs", "42"]),
        ("from sample import part\nprint(part.number)", ["the package runs", "41"]),
        ("import sample.part\nfrom sample import part\nprint(part.number)", ["41"]),
        ("import sample\nsample.total, sample.total\nprint(type(sample).__name__)", ["the package runs", "module"]),
        ("import sample\nprint(sample.__spec__.loader.__class__.__name__)", ["SourceFileLoader"]),
    ],
)
def test_a_package_runs_when_it_is_asked_for_a_name_and_once(tmp_path: Path, code: str, printed: list[str]) -> None:
    assert run(tmp_path, code) == printed


def test_a_name_that_a_package_does_not_have_is_an_error_as_ever(tmp_path: Path) -> None:
    *_, last = run(tmp_path, "import sample.part\nprint(sample.nothing)")
    assert last == "AttributeError: module 'sample' has no attribute 'nothing'"


def test_many_threads_that_ask_at_once_run_it_once(tmp_path: Path) -> None:
    code = (
        "import sample.part\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(16) as pool: print({*pool.map(lambda _: sample.total, range(64))})"
    )
    assert run(tmp_path, code) == ["the package runs", "{42}"]
