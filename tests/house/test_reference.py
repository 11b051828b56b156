import re
import subprocess
import sys
from pathlib import Path

from modular_agent.settings import Settings


def test_the_reference_documents_say_what_the_code_says(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_every_variable_is_documented_and_every_documented_one_exists(root: Path) -> None:
    documented = re.findall(r"^\| `([A-Z_]+)` \|", (root / "docs" / "settings.md").read_text(), re.MULTILINE)
    known = [
        str(field.validation_alias)
        for group in Settings.model_fields.values()
        for field in group.annotation.model_fields.values()  # pyright: ignore
    ]
    assert documented == known


def test_every_setting_says_what_it_means() -> None:
    for group in Settings.model_fields.values():
        for name, field in group.annotation.model_fields.items():  # pyright: ignore
            assert field.description, name
            assert field.description.endswith(".")


def test_the_project_s_documents_lead_somewhere(root: Path) -> None:
    for document in (*root.glob("*.md"), *(root / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (document.parent / target).exists(), f"{document.relative_to(root)}: {target}"
