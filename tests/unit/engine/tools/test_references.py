import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modular_agent.engine.tools.errors import (
    AttributeMissing,
    BadReference,
    ImportFailed,
    ModuleMissing,
    NotCallable,
    ReferenceMalformed,
    ReferenceNotAllowed,
)
from modular_agent.engine.tools.references import References

Write = Callable[[str, str], Path]


@pytest.fixture
def references(configs: Path) -> Iterator[References]:
    found = References(configs, allowed_modules=["json", "email"])
    yield found
    found.close()


def test_a_file_below_the_configs_root_is_loaded(references: References, write_tool: Write) -> None:
    write_tool("tickets", "def fetch(): return 7\ngraph = {'a': 1}\n")
    assert references.load_callable("tools.tickets:fetch")() == 7
    assert references.load("tools.tickets:graph") == {"a": 1}


def test_a_dotted_module_is_a_file_in_a_folder(references: References, write_tool: Write) -> None:
    write_tool("crm/tickets", "def fetch(): return 8\n")
    assert references.load("tools.crm.tickets:fetch")() == 8
    assert references.check("tools.crm.tickets:fetch").is_async is False


def test_a_file_imports_its_neighbours(references: References, write_tool: Write) -> None:
    write_tool("shared", "FACTOR = 3\n")
    write_tool("tickets", "from .shared import FACTOR\ndef fetch(): return FACTOR\n")
    assert references.load("tools.tickets:fetch")() == 3


def test_a_changed_file_is_loaded_again_even_within_the_same_second(references: References, write_tool: Write) -> None:
    write_tool("tickets", "def fetch(): return 1\n")
    first = references.load("tools.tickets:fetch")
    write_tool("tickets", "def fetch(): return 2\n")
    assert references.load("tools.tickets:fetch")() == 2
    assert first() == 1


def test_a_changed_neighbour_is_loaded_again(references: References, write_tool: Write) -> None:
    write_tool("shared", "FACTOR = 3\n")
    write_tool("tickets", "from .shared import FACTOR\ndef fetch(): return FACTOR\n")
    references.load("tools.tickets:fetch")
    write_tool("shared", "FACTOR = 4\n")
    assert references.load("tools.tickets:fetch")() == 4


def test_a_file_that_did_not_change_keeps_its_state(references: References, write_tool: Write) -> None:
    path = write_tool("tickets", "def fetch(): return 1\n")
    first = references.load("tools.tickets:fetch")
    path.touch()
    assert references.load("tools.tickets:fetch") is first


def test_modules_of_others_keep_their_names(references: References, write_tool: Write) -> None:
    write_tool("json", "def fetch(): return 1\n")
    before = {name for name in sys.modules if name == "tools" or name.startswith("tools.")}
    references.load("tools.json:fetch")
    assert sys.modules["json"].__name__ == "json"
    assert {name for name in sys.modules if name == "tools" or name.startswith("tools.")} == before
    references.close()
    assert not [name for name in sys.modules if name.startswith("_modular_agent_files_")]


def test_dataclasses_with_text_annotations_work(references: References, write_tool: Write) -> None:
    source = "from __future__ import annotations\nimport dataclasses, typing\n"
    write_tool("shapes", source + "@dataclasses.dataclass\nclass P:\n    x: typing.ClassVar[int] = 1\n    y: int = 2\n")
    assert references.load("tools.shapes:P")().y == 2


def test_no_byte_code_is_written(references: References, write_tool: Write) -> None:
    path = write_tool("tickets", "def fetch(): return 1\n")
    references.load("tools.tickets:fetch")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "tools.a", ":x", "tools.a:", "tools..a:b", "../a:b", "tools/a:b", "a b:c", "a:b:c"]
)
def test_text_that_is_no_reference_is_malformed(references: References, text: str) -> None:
    with pytest.raises(ReferenceMalformed):
        references.check(text)


@pytest.mark.parametrize("text", ["os:system", "jsonx:loads", "tools:fetch", "subprocess.x:run"])
def test_a_module_outside_the_allow_list_is_refused(references: References, text: str) -> None:
    for resolve in (references.check, references.load):
        with pytest.raises(ReferenceNotAllowed, match="ALLOWED_MODULES"):
            resolve(text)


def test_an_allowed_module_and_what_is_below_it_are_loaded(references: References) -> None:
    assert references.load_callable("json:loads")("1") == 1
    assert references.load("email.message:Message.keys")
    assert references.check("email.message:Message").is_async is None


def test_a_file_that_does_not_exist_names_the_likely_one(references: References, write_tool: Write) -> None:
    write_tool("tickets", "def fetch(): ...\n")
    with pytest.raises(ModuleMissing) as caught:
        references.check("tools.tickts:fetch")
    assert caught.value.suggestion == "tools.tickets:fetch"
    assert caught.value.fault("tools.x.ref").code == "module_not_found"


def test_a_link_out_of_the_root_counts_as_missing(references: References, configs: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("def fetch(): ...\n")
    (configs / "tools" / "evil.py").symlink_to(tmp_path / "outside.py")
    for resolve in (references.check, references.load):
        with pytest.raises(ModuleMissing):
            resolve("tools.evil:fetch")


def test_a_missing_attribute_names_the_likely_one(references: References, write_tool: Write) -> None:
    write_tool("tickets", "def fetch(): ...\n")
    for resolve in (references.check, references.load):
        with pytest.raises(AttributeMissing) as caught:
            resolve("tools.tickets:fetsh")
        assert caught.value.suggestion == "fetch"


def test_what_cannot_be_called_is_refused_as_a_callable_only(references: References, write_tool: Write) -> None:
    write_tool("tickets", "value = 3\n")
    assert references.load("tools.tickets:value") == 3
    with pytest.raises(NotCallable, match="int"):
        references.load_callable("tools.tickets:value")


@pytest.mark.parametrize("source", ["import nowhere_at_all\n", "1/0\n", "raise SystemExit(3)\n", "def broken(:\n"])
def test_an_import_that_fails_says_why_without_a_path(
    references: References, configs: Path, write_tool: Write, source: str
) -> None:
    write_tool("tickets", source)
    with pytest.raises(ImportFailed) as caught:
        references.load("tools.tickets:fetch")
    assert str(configs) not in str(caught.value)
    assert str(configs) not in caught.value.message("zh")


def test_an_error_that_names_a_path_loses_it(references: References, configs: Path, write_tool: Write) -> None:
    write_tool("tickets", "open(__file__ + '.missing')\n")
    with pytest.raises(ImportFailed) as caught:
        references.load("tools.tickets:fetch")
    assert str(configs) not in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)


def test_a_failed_import_leaves_nothing_behind(references: References, write_tool: Write) -> None:
    write_tool("tickets", "1/0\n")
    with pytest.raises(ImportFailed):
        references.load("tools.tickets:fetch")
    write_tool("tickets", "def fetch(): return 5\n")
    assert references.load("tools.tickets:fetch")() == 5


def test_checking_imports_nothing(references: References, tmp_path: Path, write_tool: Write) -> None:
    flag = tmp_path / "imported"
    write_tool("tickets", f"open({str(flag)!r}, 'w')\ndef fetch(): ...\nasync def later(): ...\n")
    checked = references.check("tools.tickets:fetch")
    assert (checked.is_async, checked.line) == (False, 2)
    assert references.check("tools.tickets:later").is_async is True
    assert not flag.exists()


def test_checking_sees_names_however_they_are_defined(references: References, write_tool: Write) -> None:
    source = """
import os as system
from json import loads
a, (b, *c) = 1, (2, 3)
d: int = 4
class E: ...
@system.fspath
def f(): ...
if a:
    def g(): ...
try:
    import h
except ImportError:
    h = None
"""
    write_tool("names", source)
    for name in ["system", "loads", "a", "b", "c", "d", "E", "f", "g", "h"]:
        references.check(f"tools.names:{name}")
    assert references.check("tools.names:f").is_async is None


def test_checking_does_not_guess_after_a_star_import(references: References, write_tool: Write) -> None:
    write_tool("names", "from json import *\n")
    assert references.check("tools.names:loads").line is None


def test_checking_reports_a_syntax_error_with_its_line(references: References, write_tool: Write) -> None:
    write_tool("names", "x = 1\ndef broken(:\n")
    with pytest.raises(ImportFailed, match="line 2"):
        references.check("tools.names:x")


def test_every_error_speaks_both_languages() -> None:
    more = {"module": "m", "attribute": "a", "type": "int", "error_type": "E", "error": "e"}
    kinds = BadReference.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) == 6
    for kind in kinds:
        error = kind(reference="m:a", **more)
        assert error.message("en") != error.message("zh")
