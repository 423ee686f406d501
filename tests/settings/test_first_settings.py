"""The settings that a machine begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import Method, load, named_host, propose, save


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


def test_a_bucket_stays_one(tmp_path: Path) -> None:
    settings = propose("s3://bucket/prefix?endpoint=https://minio.example.org:9000", file=tmp_path / "newhope.toml")

    save(settings, settings.file)

    storage = load(settings.file).repositories[0].object_storage
    assert storage is not None
    assert (storage.url, storage.endpoint) == ("s3://bucket/prefix", "https://minio.example.org:9000")


@pytest.mark.parametrize(
    ("text", "name", "uri"),
    [
        ("rescue=qemu:///system", "rescue", "qemu:///system"),
        ("qemu+ssh://root@kvm01.example.org/system", "kvm01", "qemu+ssh://root@kvm01.example.org/system"),
        ("qemu+ssh://root@192.0.2.7/system?keyfile=/k", "192.0.2.7", "qemu+ssh://root@192.0.2.7/system?keyfile=/k"),
        ("a=qemu+unix:///session?socket=/s", "a", "qemu+unix:///session?socket=/s"),
    ],
)
def test_a_host_is_called_as_asked_or_after_its_machine(text: str, name: str, uri: str) -> None:
    host = named_host(text)

    assert (host.name, host.uri) == (name, uri)


def test_hosts_that_are_named_take_the_place_of_this_machine(tmp_path: Path) -> None:
    hosts = [named_host("qemu+ssh://root@[2001:db8::7]/system"), named_host("qemu:///session?socket=/s")]

    settings = propose("/srv/newhope", hosts=hosts, file=tmp_path / "newhope.toml")
    save(settings, settings.file)

    assert [host.uri for host in load(settings.file).hosts] == [host.uri for host in hosts]
