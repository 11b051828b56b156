import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv, which builds the package, is not on the PATH")
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", target], cwd=ROOT, check=True, timeout=100)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_everything_that_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    package = ROOT / "src" / "modular_agent"
    expected = {
        f"modular_agent/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "modular_agent/py.typed" in expected
    assert any(name.startswith("modular_agent/storage/migrations/versions/") for name in expected)
    assert any(name.startswith("modular_agent/schemas/") for name in expected)
    assert expected - inside == set()
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_the_package_is_imported_from_the_wheel_alone(wheel: Path) -> None:
    """In a process that sees the wheel and the installed dependencies, but not this repository."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import modular_agent.settings as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheel)], cwd=wheel.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(wheel))
