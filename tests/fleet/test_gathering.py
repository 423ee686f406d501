"""Gathering from real repositories and real libvirt connections (libvirt's own test driver, and dead ones)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from engine.fleet import Fleet, gather, look_into_repository
from engine.fleet.gathering import disk_devices
from engine.hosts import HostLanes, inventory
from engine.hosts.facts import read_facts
from engine.hosts.model import HostFacts, HostStatus
from engine.hosts.reach import Reach
from engine.repository import Repository
from engine.settings import Host, ObjectStorage, Settings
from engine.settings import Repository as RepositorySettings
from tests.builders import make_disk, make_fleet, make_host, make_host_facts, make_settings, make_vm

LIVE = Host("alderaan", "test:///default")
DEAD = Host("yavin", "qemu+unix:///session?socket=/nonexistent/libvirt-sock")


def gathered(settings: Settings, **choices: object) -> Fleet:
    with HostLanes(settings) as lanes:
        return gather(settings, lanes, **choices)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[RepositorySettings]:
    with Repository.create(tmp_path / "vault", name="vault"):
        yield RepositorySettings("vault", tmp_path / "vault")


def test_a_live_host_and_a_repository_are_seen(vault: RepositorySettings) -> None:
    fleet = gathered(make_settings(hosts=[LIVE], repositories=[vault]))

    assert [vm.name for vm in fleet.snapshots[0].vms] == ["test"]
    assert fleet.repositories[0].reachable
    info = fleet.repositories[0].info
    assert info is not None
    assert info.name == "vault"
    assert fleet.points == ()


def test_a_dead_host_is_a_row_with_a_reason_and_the_others_are_seen(vault: RepositorySettings) -> None:
    fleet = gathered(make_settings(hosts=[DEAD, LIVE], repositories=[vault]))

    dead, live = fleet.snapshots
    assert (dead.host, dead.status) == ("yavin", HostStatus.OFFLINE)
    assert dead.reason
    assert dead.next_step
    assert live.status is HostStatus.ONLINE


def test_a_host_that_takes_long_to_tell_what_it_offers_is_seen_with_its_vms(
    vault: RepositorySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(connection: libvirt.virConnect, reach: Reach) -> HostFacts:
        time.sleep(3)
        return read_facts(connection, reach)

    # libvirt tries every QEMU anew while it cannot keep what it learned (seen: 16 s).
    monkeypatch.setattr(inventory, "read_facts", slow)

    fleet = gathered(make_settings(hosts=[LIVE], repositories=[vault]), timeout_s=1.0)

    assert [vm.name for vm in fleet.snapshots[0].vms] == ["test"]
    assert fleet.snapshots[0].facts is not None


def test_a_dead_host_that_answered_before_is_stale(vault: RepositorySettings) -> None:
    before = make_fleet(hosts=[make_host("yavin", uri=DEAD.uri, vms=[make_vm("web")])])

    fleet = gathered(make_settings(hosts=[DEAD], repositories=[vault]), previous=before)

    assert fleet.snapshots[0].status is HostStatus.STALE
    assert [vm.name for vm in fleet.snapshots[0].vms] == ["web"]


def test_a_missing_repository_is_a_row_with_a_reason_and_the_others_are_seen(
    tmp_path: Path, vault: RepositorySettings
) -> None:
    missing = RepositorySettings("attic", tmp_path / "attic")

    fleet = gathered(make_settings(hosts=[], repositories=[missing, vault]))

    assert [view.reachable for view in fleet.repositories] == [False, True]
    assert str(tmp_path / "attic") in (fleet.repositories[0].reason or "")
    assert fleet.repositories[0].next_step


def test_a_folder_that_is_no_repository_is_a_row_with_a_reason(tmp_path: Path) -> None:
    view, points = look_into_repository(RepositorySettings("attic", tmp_path))

    assert not view.reachable
    assert view.reason
    assert points == ()


def test_a_file_in_place_of_a_repository_is_a_row_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "attic").write_text("")

    view, _ = look_into_repository(RepositorySettings("attic", tmp_path / "attic"))

    assert not view.reachable
    assert view.reason


def test_a_repository_that_hangs_is_a_row_and_holds_up_nobody(tmp_path: Path, vault: RepositorySettings) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    os.mkfifo(hanging / "newhope-repository")

    fleet = gathered(make_settings(hosts=[], repositories=[RepositorySettings("nas", hanging), vault]), timeout_s=3)

    _let_go(hanging / "newhope-repository")
    assert [view.reachable for view in fleet.repositories] == [False, True]
    assert "did not answer" in (fleet.repositories[0].reason or "")


def test_without_hosts_and_repositories_the_fleet_is_empty() -> None:
    fleet = gathered(make_settings(hosts=[], repositories=[]))

    assert (fleet.snapshots, fleet.repositories, fleet.points) == ((), (), ())


def test_a_repository_here_has_this_machines_id_and_the_device_below_it(vault: RepositorySettings) -> None:
    view, _ = look_into_repository(vault)

    has_id = Path("/etc/machine-id").is_file()
    assert (view.machine_id is not None) == has_id
    assert view.device


def test_the_disks_of_vms_on_this_machine_have_the_device_of_their_folder(vault: RepositorySettings) -> None:
    image = str(vault.path.parent / "web.qcow2")
    vm = make_vm(disks=(make_disk(source=image), make_disk("vdb", source=None), make_disk("vdc", source="pool/volume")))
    here = make_host("alderaan", vms=[vm], facts=make_host_facts(local=True))
    elsewhere = make_host("coruscant", vms=[make_vm("db", disks=vm.disks)])

    devices = disk_devices((here, elsewhere), timeout_s=60)

    view, _ = look_into_repository(vault)
    assert [(each.host, each.source, each.device) for each in devices] == [("alderaan", image, view.device)]


def _let_go(fifo: Path) -> None:
    """Let the thread that waits for the fifo's other end go on, so that it does not outlive the test."""
    opened = threading.Thread(target=lambda: fifo.open("wb").close(), daemon=True)
    opened.start()
    opened.join(timeout=2)


def test_a_bucket_that_does_not_answer_is_a_row_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "newhope-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    far = RepositorySettings(
        "far", Path("s3://vault/x"), object_storage=ObjectStorage("s3://vault/x", "http://127.0.0.1:1")
    )
    fleet = gathered(make_settings(hosts=[LIVE], repositories=[far]), timeout_s=1.0)

    (view,) = fleet.repositories
    assert not view.reachable
    assert view.path == "s3://vault/x?endpoint=http://127.0.0.1:1"
    assert "did not answer" in (view.reason or "")
    assert "newhope repo test-storage far" in (view.next_step or "")
