"""Which settings a command is about: the named ones, one's own, and for a newcomer those of the practice hosts."""

from pathlib import Path

import pytest

from engine.cli.settings_in_use import file_in_use


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NEWHOPE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("engine.lab.default_folder", lambda: tmp_path / "lab")
    return tmp_path


def put(file: Path) -> Path:
    file.parent.mkdir(parents=True)
    file.write_text("")
    return file


def test_without_own_settings_the_practice_hosts_are_meant_if_there_are_any(home: Path):
    assert file_in_use(None) is None

    practice = put(home / "lab" / "newhope.toml")

    assert file_in_use(None) == practice


def test_own_settings_go_before_the_practice_hosts(home: Path):
    put(home / "lab" / "newhope.toml")
    put(home / "config" / "newhope" / "newhope.toml")

    assert file_in_use(None) is None


def test_a_file_that_is_named_is_used_even_if_it_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch):
    put(home / "lab" / "newhope.toml")

    assert file_in_use(home / "named.toml") == home / "named.toml"
    monkeypatch.setenv("NEWHOPE_CONFIG", str(home / "other.toml"))
    assert file_in_use(None) is None
