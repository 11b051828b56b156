from pathlib import Path

import pytest

from modular_agent.cli.errors import NothingFound
from modular_agent.cli.workflow_place import WorkflowPlace, find_place, find_places

CONFIGS = Path("configs")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("configs/workflows/a.yaml", "configs/workflows/deep/b.json", "other/workflows/c.yaml", "d.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("written", ["configs/workflows/a.yaml", "./configs/workflows/a.yaml", "a", "workflows/a.yaml"])
def test_a_workflow_has_one_place_however_it_is_written(written: str) -> None:
    assert find_place(written, root=CONFIGS, root_is_given=False) == WorkflowPlace(CONFIGS, "workflows/a.yaml")


def test_an_absolute_file_below_the_root_is_found(project: Path) -> None:
    place = find_place(str(project / "configs/workflows/a.yaml"), root=CONFIGS, root_is_given=True)
    assert place == WorkflowPlace(CONFIGS, "workflows/a.yaml")


def test_a_file_elsewhere_has_the_root_above_its_workflows() -> None:
    place = find_place("other/workflows/c.yaml", root=CONFIGS, root_is_given=False)
    assert place == WorkflowPlace(Path("other"), "workflows/c.yaml")
    assert place.shown == "other/workflows/c.yaml"


def test_a_file_without_such_a_folder_has_its_own_as_root() -> None:
    assert find_place("d.yaml", root=CONFIGS, root_is_given=False) == WorkflowPlace(Path(), "d.yaml")


def test_a_root_that_was_given_is_not_replaced() -> None:
    assert find_place("d.yaml", root=CONFIGS, root_is_given=True).root == CONFIGS


def test_no_argument_means_every_workflow_of_the_root() -> None:
    paths = [place.path for place in find_places([], root=CONFIGS, root_is_given=False)]
    assert paths == ["workflows/a.yaml", "workflows/deep/b.json"]


def test_a_project_means_the_workflows_of_its_configs(project: Path) -> None:
    (project / "configs" / "other.yaml").touch()
    assert len(find_places(["."], root=CONFIGS, root_is_given=False)) == 2


def test_a_file_that_is_named_twice_is_there_once() -> None:
    assert len(find_places(["a", "configs"], root=CONFIGS, root_is_given=False)) == 2


def test_a_folder_without_workflows_is_an_error(project: Path) -> None:
    (project / "empty").mkdir()
    with pytest.raises(NothingFound):
        find_places(["empty"], root=CONFIGS, root_is_given=False)
