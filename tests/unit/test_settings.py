import subprocess
import sys
from pathlib import Path

import pytest

from modular_agent.settings import (
    DEFAULT_SECRET_KEY,
    InvalidSettings,
    Settings,
    UnsafeBind,
    check_bind,
    check_production,
    environment,
    load_settings,
)

GOOD_SECRET = "3d8c51f0a9b24e6f8d17c2b05e9a4f6d"


def variables() -> list[str]:
    names: list[str] = []
    for group in Settings.model_fields.values():
        assert isinstance(group.annotation, type)
        names += [str(field.validation_alias) for field in group.annotation.model_fields.values()]  # pyright: ignore
    return names


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_those_of_a_server_for_oneself() -> None:
    settings = load_settings()
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8000)
    assert (settings.storage.data_path, settings.storage.config_path) == (Path("data"), Path("configs"))
    assert (settings.cache.ttl, settings.cache.max_size) == (300, 1000)
    assert settings.log.file == Path("logs/api.log")
    assert settings.storage.url == "sqlite+aiosqlite:///data/modular_agent.db"
    assert settings.http.loopback_only


def test_every_variable_is_its_own() -> None:
    assert len(variables()) == len(set(variables()))
    assert all(name.isupper() for name in variables())


def test_the_environment_wins_over_the_file_and_overrides_win_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1\nCACHE_TTL=7\nHOST=::1\n# a comment\nOPENAI_API_KEY=sk-of-somebody\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("CACHE_TTL", "8")
    settings = load_settings({"PORT": "3", "HOST": None})
    assert (settings.http.port, settings.cache.ttl, settings.http.host) == (3, 8, "::1")


def test_keys_of_the_file_are_in_the_environment_that_providers_see(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SOME_API_KEY=of-the-file\nOTHER_API_KEY='of the file'\nEMPTY\n")
    monkeypatch.setenv("SOME_API_KEY", "of-the-process")
    found = environment()
    assert (found["SOME_API_KEY"], found["OTHER_API_KEY"]) == ("of-the-process", "of the file")
    assert "EMPTY" not in found


def test_a_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"PORT=\xff\xfe")
    with pytest.raises(InvalidSettings, match=r"\.env: must be a readable file"):
        load_settings()


def test_an_empty_variable_means_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert load_settings().http.port == 8000


def test_lists_are_separated_by_commas() -> None:
    settings = load_settings(
        {
            "CORS_ORIGINS": "https://a.example/, https://b.example",
            "ALLOWED_MODULES": " my.tools ,other,",
            "ALLOWED_HOSTS": "x",
        }
    )
    assert settings.http.cors_origins == ("https://a.example", "https://b.example")
    assert settings.storage.allowed_modules == ("my.tools", "other")
    assert settings.http.allowed_hosts == ("x",)


def test_the_log_file_can_be_none() -> None:
    assert load_settings({"LOG_FILE": "none"}).log.file is None


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.http.port = 1  # pyright: ignore
    with pytest.raises(ValueError, match="frozen"):
        settings.http = settings.http  # pyright: ignore


def test_every_bad_value_is_named_at_once_in_both_languages_and_none_is_shown() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings({"PORT": "geheim-1", "LOG_LEVEL": "geheim-2", "CACHE_TTL": "-1", "DEBUG": "geheim-3"})
    text = str(caught.value)
    assert {name for name, *_ in caught.value.problems} == {"PORT", "LOG_LEVEL", "CACHE_TTL", "DEBUG"}
    assert "PORT: must be a whole number" in text
    assert "PORT: 必须是整数" in text
    assert "CACHE_TTL: must be at least 0" in text
    assert "geheim" not in text


def test_secrets_are_not_in_the_settings_text() -> None:
    text = repr(load_settings({"SECRET_KEY": GOOD_SECRET, "DATABASE_URL": "postgresql+asyncpg://u:hunter2@h/d"}))
    assert GOOD_SECRET not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ["SECRET_KEY"]),
        ({"SECRET_KEY": DEFAULT_SECRET_KEY}, ["SECRET_KEY"]),
        ({"SECRET_KEY": "short"}, ["SECRET_KEY"]),
        ({"SECRET_KEY": GOOD_SECRET}, []),
        ({"SECRET_KEY": GOOD_SECRET, "DEBUG": "true"}, ["DEBUG"]),
        ({"SECRET_KEY": GOOD_SECRET, "CORS_ORIGINS": "*"}, []),
        ({"SECRET_KEY": GOOD_SECRET, "CORS_ORIGINS": "*", "CORS_CREDENTIALS": "true"}, ["CORS_ORIGINS"]),
        ({"DEBUG": "1", "CORS_ORIGINS": "*", "CORS_CREDENTIALS": "1"}, ["SECRET_KEY", "DEBUG", "CORS_ORIGINS"]),
    ],
)
def test_production_names_every_setting_that_is_not_fit_for_it(given: dict[str, str], named: list[str]) -> None:
    settings = load_settings({**given, "ENVIRONMENT": "production"})
    try:
        check_production(settings)
        problems: list[str] = []
    except InvalidSettings as error:
        problems = [name for name, *_ in error.problems]
    assert problems == named


def test_what_production_refuses_is_said_in_both_languages_without_the_value() -> None:
    with pytest.raises(InvalidSettings) as caught:
        check_production(load_settings({"SECRET_KEY": "hunter2", "ENVIRONMENT": "production"}))
    assert "SECRET_KEY: set a random value" in caught.value.message("en")
    assert "SECRET_KEY: 请设置" in caught.value.message("zh")
    assert "hunter2" not in str(caught.value)


def test_development_asks_for_nothing() -> None:
    check_production(load_settings({"DEBUG": "true"}))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3", "LOCALHOST"])
def test_loopback_may_be_bound(host: str) -> None:
    check_bind(host, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "", "localhost.evil.example"])
def test_anything_else_is_refused_unless_insecure_is_asked_for(host: str) -> None:
    with pytest.raises(UnsafeBind, match="--insecure"):
        check_bind(host, insecure=False)
    check_bind(host, insecure=True)


def test_a_process_reads_its_environment(tmp_path: Path) -> None:
    code = "from modular_agent.settings import load_settings; print(load_settings().http.port)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PORT": "4711", "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "4711"
