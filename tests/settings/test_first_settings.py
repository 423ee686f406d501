"""The settings that a machine begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import Method, load, propose, save


def test_the_system_daemon_is_chosen_where_its_socket_exists(tmp_path: Path) -> None:
    socket = tmp_path / "libvirt-sock"
    socket.touch()

    settings = propose(Path("/srv/newhope"), machine="kvm01", system_sockets=(tmp_path / "no", socket))

    assert (settings.hosts[0].name, settings.hosts[0].uri) == ("kvm01", "qemu:///system")


def test_the_session_daemon_is_chosen_otherwise(tmp_path: Path) -> None:
    settings = propose(Path("/srv/newhope"), system_sockets=(tmp_path / "no",))

    assert settings.hosts[0].uri == "qemu:///session"


@pytest.mark.parametrize(
    ("machine", "name"), [("kvm01", "kvm01"), ("my machine", "my-machine"), ("-x-", "x"), ("", None), ("ä", None)]
)
def test_the_name_of_the_machine_is_made_one_that_settings_can_hold(
    tmp_path: Path, machine: str, name: str | None
) -> None:
    settings = propose(Path("/srv/newhope"), machine=machine, file=tmp_path / "newhope.toml")

    save(settings, settings.file)
    assert name is None or load(settings.file).hosts[0].name == name


def test_they_can_be_saved_and_loaded(tmp_path: Path) -> None:
    settings = propose(Path("/srv/newhope"), file=tmp_path / "newhope.toml")

    save(settings, settings.file)

    assert load(settings.file) == settings


def test_every_vm_gets_a_level_and_the_careful_one_wants_two_copies() -> None:
    gold, silver, bronze = propose(Path("/srv/newhope")).levels

    assert gold.copies == 2
    assert silver.default
    assert bronze.method is Method.COLD


def test_a_relative_repository_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert propose(Path("vault")).repositories[0].path == tmp_path / "vault"
