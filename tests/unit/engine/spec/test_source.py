from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.spec.errors import FileNotFound, FileTooLarge, NotUtf8, PathOutsideRoot
from modular_agent.engine.spec.source import BundleSource, DirectorySource, OverlaySource, Source, bundle_hash

FILES = {"workflows/react.yaml": "name: react\n", "prompts/你好.md": "Hello 你好", "empty.txt": ""}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(params=["directory", "bundle", "overlay"])
def source(request: pytest.FixtureRequest, root: Path) -> Source:
    if request.param == "directory":
        return DirectorySource(root)
    if request.param == "bundle":
        return BundleSource(FILES)
    return OverlaySource({"workflows/react.yaml": FILES["workflows/react.yaml"]}, below=DirectorySource(root))


@pytest.mark.parametrize("path", ["workflows/react.yaml", "configs/workflows/react.yaml", "./workflows//react.yaml"])
def test_a_file_has_one_name_however_it_is_written(source: Source, path: str) -> None:
    assert source.locate(path) == "workflows/react.yaml"
    assert source.read(path) == "name: react\n"


def test_texts_are_utf8_and_may_be_empty(source: Source) -> None:
    assert source.read("prompts/你好.md") == "Hello 你好"
    assert source.read("empty.txt") == ""


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "workflows/../../secret.txt",
        "/etc/passwd",
        "~/x",
        "C:/x",
        "a\\b",
        "a\0b",
        "",
        ".",
        "configs/../x",
    ],
)
def test_a_path_that_leaves_the_root_is_refused(source: Source, path: str) -> None:
    with pytest.raises(PathOutsideRoot) as raised:
        source.read(path)
    assert raised.value.code == "path_outside_root"


def test_a_missing_file_has_a_suggestion(source: Source) -> None:
    with pytest.raises(FileNotFound) as raised:
        source.read("workflows/raect.yaml")
    assert (raised.value.code, raised.value.suggestion) == ("file_not_found", "workflows/react.yaml")


def test_a_folder_is_no_file(source: Source) -> None:
    with pytest.raises(FileNotFound):
        source.read("workflows")


def test_links_out_of_the_root_are_refused_and_those_within_are_not(root: Path) -> None:
    (root / "out.txt").symlink_to(root.parent / "secret.txt")
    (root / "outer").symlink_to(root.parent)
    (root / "in.txt").symlink_to(root / "empty.txt")
    (root / "loop").symlink_to(root / "loop")
    source = DirectorySource(root)
    for path in ("out.txt", "outer/secret.txt"):
        with pytest.raises(PathOutsideRoot):
            source.read(path)
    with pytest.raises(FileNotFound):
        source.read("loop")
    assert source.read("in.txt") == ""


def test_a_folder_named_like_the_root_comes_first(root: Path) -> None:
    (root / "configs" / "workflows").mkdir(parents=True)
    (root / "configs" / "workflows" / "react.yaml").write_text("inner")
    assert DirectorySource(root).read("configs/workflows/react.yaml") == "inner"


def test_what_is_too_large_or_no_text_is_refused(root: Path) -> None:
    (root / "large.txt").write_bytes(b"x" * 101)
    (root / "image.png").write_bytes(b"\x89PNG\xff")
    (root / "bom.txt").write_bytes(b"\xef\xbb\xbfa: 1")
    source = DirectorySource(root, max_bytes=100)
    with pytest.raises(FileTooLarge):
        source.read("large.txt")
    with pytest.raises(NotUtf8):
        source.read("image.png")
    with pytest.raises(NotUtf8):
        BundleSource({"a": "\ud800"}).read("a")
    assert source.read("bom.txt") == "a: 1"


def test_a_name_that_no_file_system_takes_is_not_found(root: Path) -> None:
    with pytest.raises(FileNotFound):
        DirectorySource(root).read("x" * 5000)


@given(st.text())
def test_no_path_reads_anything_outside(path: str) -> None:
    source = DirectorySource(Path(__file__).parent / "corpus")
    try:
        located = source.locate(path)
    except (PathOutsideRoot, FileNotFound):
        return
    assert (source.root / located).resolve().is_relative_to(source.root)


BUNDLES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=4), st.text(st.characters(codec="utf-8"), max_size=6), max_size=3
)


@given(BUNDLES, BUNDLES)
def test_bundles_share_a_hash_only_if_they_are_equal(one: dict[str, str], other: dict[str, str]) -> None:
    assert (bundle_hash("p", one) == bundle_hash("p", other)) == (one == other)
    assert bundle_hash("p", one) == bundle_hash("p", dict(reversed(one.items())))
    assert bundle_hash("p", one) != bundle_hash("q", one)


def test_the_hash_of_a_bundle_never_changes() -> None:
    assert bundle_hash("workflows/react.yaml", FILES) == PINNED


PINNED = "bed63b98b09d2e68e5e5ee0a210a9cb24ed26ce99c75e319c3218ffbe6fd58bc"  # sessions are pinned by it
