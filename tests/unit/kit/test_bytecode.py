"""Byte code on a full disk, in processes of their own, so that nothing is cached."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
"""


def printed(folder: Path, code: str) -> str:
    """What a process prints that may write byte code."""
    begin = "import sys\nsys.dont_write_bytecode = False\nsys.path.insert(0, '.')\nimport modular_agent\n"
    done = subprocess.run([sys.executable, "-c", begin + code], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a file's size cannot be limited there")
def test_a_full_disk_leaves_no_half_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("\n".join(f"value{n} = 'text {n}'" for n in range(200)))
    assert printed(tmp_path, LIMITED + "import large; print(large.value7)") == "text 7\n"
    assert list((tmp_path / "__pycache__").iterdir()) == []
    assert printed(tmp_path, "import large; print(large.value7)") == "text 7\n"
    (kept,) = (tmp_path / "__pycache__").iterdir()
    assert kept.name.endswith(".pyc")
    assert printed(tmp_path, "import large; print(large.__cached__ is not None, large.value7)") == "True text 7\n"
