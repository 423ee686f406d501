"""Where the settings are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import default_file, default_state, load

TEXT = '[hosts.a]\nuri = "qemu:///system"\n'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NEWHOPE_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_without_any_word_it_is_in_the_home_folder(tmp_path: Path) -> None:
    assert default_file() == tmp_path / "home/.config/newhope/newhope.toml"
    assert default_state() == tmp_path / "home/.local/state/newhope"


def test_the_xdg_folders_go_before_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    assert default_file() == tmp_path / "config/newhope/newhope.toml"
    assert default_state() == tmp_path / "state/newhope"


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_an_xdg_folder_that_is_not_absolute_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", value)

    assert default_file() == tmp_path / "home/.config/newhope/newhope.toml"


def test_the_named_file_goes_before_the_xdg_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NEWHOPE_CONFIG", str(tmp_path / "mine.toml"))

    assert default_file() == tmp_path / "mine.toml"


@pytest.mark.parametrize("value", ["mine.toml", "./mine.toml"])
def test_a_relative_named_file_lies_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWHOPE_CONFIG", value)

    assert default_file() == tmp_path / "mine.toml"


def test_the_file_of_the_caller_goes_before_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEWHOPE_CONFIG", str(tmp_path / "other.toml"))
    (tmp_path / "mine.toml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)

    settings = load(Path("mine.toml"))

    assert settings.file == tmp_path / "mine.toml"
