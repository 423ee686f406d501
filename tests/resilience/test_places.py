"""Backups that share their VM's fate: host, disk, rack, power, site."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.fleet import DiskDevice, Fleet, RepositoryView
from engine.hosts.model import HostSnapshot, HostStatus
from engine.resilience import Severity
from engine.settings import Host, Repository, Settings
from tests.builders import make_fleet, make_host, make_host_facts, make_point, make_repository, make_settings, make_vm
from tests.resilience.finding_of import findings, flaws, severities

MACHINE = "a" * 32
HOST = "repository-on-same-host"
DEVICE = "repository-on-same-device"


def settings(
    *,
    on_host: str | None = None,
    repository_places: dict[str, str] | None = None,
    host_places: dict[str, str] | None = None,
    more: tuple[Repository, ...] = (),
) -> Settings:
    return make_settings(
        hosts=[
            Host("alderaan", "qemu+ssh://root@alderaan/system", places=host_places or {}),
            Host("yavin", "qemu+ssh://root@yavin/system", places={"rack": "r9", "site": "south"}),
        ],
        repositories=[
            Repository("vault", Path("/srv/vault"), on_host=on_host, places=repository_places or {}),
            *more,
        ],
    )


def fleet_of(
    *,
    machine: str | None = MACHINE,
    local: bool = False,
    repository_machine: str | None = MACHINE,
    device: str | None = None,
    hosts: list[HostSnapshot] | None = None,
    more: tuple[RepositoryView, ...] = (),
    also_in: tuple[str, ...] = (),
) -> Fleet:
    facts = make_host_facts("alderaan", machine_id=machine, local=local)
    vm = make_vm("web")
    disks = [DiskDevice("alderaan", vm.disks[0].source or "", device)] if device else []
    return make_fleet(
        hosts=hosts or [make_host("alderaan", vms=[vm], facts=facts), make_host("yavin")],
        repositories=[make_repository("vault", machine_id=repository_machine, device="/sys/sda"), *more],
        points=[make_point("web"), *(make_point("web", repository=name) for name in also_in)],
        disk_devices=disks,
    )


def verdict(fleet: Fleet, said: Settings) -> str | None:
    """`host`, `device`, `apart`, or None where nothing was said."""
    if flaws(DEVICE, fleet, said):
        assert not flaws(HOST, fleet, said)
        return "device"
    if flaws(HOST, fleet, said):
        return "host"
    return "apart" if findings(HOST, fleet, said) else None


@pytest.mark.parametrize(
    ("machine", "local", "repository_machine", "device", "expected"),
    [
        (MACHINE, True, MACHINE, None, "host"),
        (MACHINE, True, MACHINE, "/sys/sdb", "host"),
        (MACHINE, True, MACHINE, "/sys/sda", "device"),
        ("b" * 32, False, MACHINE, None, "apart"),
        (None, False, MACHINE, None, "apart"),
        (None, True, MACHINE, None, "host"),
        (MACHINE, True, None, None, "apart"),
    ],
)
def test_without_any_declaration_the_machines_and_disks_are_compared(
    machine: str | None, local: bool, repository_machine: str | None, device: str | None, expected: str
) -> None:
    fleet = fleet_of(machine=machine, local=local, repository_machine=repository_machine, device=device)

    assert verdict(fleet, settings()) == expected


@pytest.mark.parametrize(("on_host", "expected"), [("alderaan", "host"), ("yavin", "apart")])
@pytest.mark.parametrize("device", [None, "/sys/sda"])
@pytest.mark.parametrize("machine", [MACHINE, "b" * 32, None])
def test_what_on_host_says_goes_before_what_is_probed(
    on_host: str, expected: str, device: str | None, machine: str | None
) -> None:
    fleet = fleet_of(machine=machine, local=True, device=device)

    assert verdict(fleet, settings(on_host=on_host)) == expected


@pytest.mark.parametrize(("host_disk", "expected"), [("nvme-1", "device"), ("nvme-2", "apart")])
def test_declared_disks_go_before_what_is_probed(host_disk: str, expected: str) -> None:
    said = settings(repository_places={"disk": "nvme-1"}, host_places={"disk": host_disk})

    assert verdict(fleet_of(local=True), said) == expected


@pytest.mark.parametrize(("ours", "theirs"), [({"disk": "nvme-1"}, {}), ({}, {"disk": "nvme-1"})])
def test_a_disk_declared_on_one_side_only_says_nothing(ours: dict[str, str], theirs: dict[str, str]) -> None:
    assert verdict(fleet_of(local=True), settings(repository_places=ours, host_places=theirs)) == "host"


def test_a_copy_elsewhere_is_enough() -> None:
    said = settings(more=(Repository("attic", Path("/srv/attic")),))
    fleet = fleet_of(local=True, more=(make_repository("attic", machine_id="c" * 32),), also_in=("attic",))

    assert verdict(fleet, said) == "apart"
    assert "attic" in findings(HOST, fleet, said)[0].what


def test_two_copies_on_the_host_itself_are_not_enough() -> None:
    said = settings(more=(Repository("attic", Path("/srv/attic")),))
    fleet = fleet_of(local=True, more=(make_repository("attic", machine_id=MACHINE),), also_in=("attic",))

    (found,) = flaws(HOST, fleet, said)

    assert found.subject == "alderaan, vault and attic"
    assert len([line for line in found.evidence if "machine-id" in line]) == 2


def test_a_host_that_never_answered_is_not_judged_by_probing() -> None:
    fleet = fleet_of(hosts=[make_host("alderaan", status=HostStatus.OFFLINE), make_host("yavin")])

    assert verdict(fleet, settings()) is None
    assert verdict(fleet, settings(on_host="alderaan")) == "host"


def test_all_vms_of_a_host_are_one_finding() -> None:
    facts = make_host_facts("alderaan", machine_id=MACHINE)
    vms = [make_vm(name) for name in ("a", "b", "c", "d", "e", "f")]
    fleet = make_fleet(
        hosts=[make_host("alderaan", vms=vms, facts=facts)],
        repositories=[make_repository("vault", machine_id=MACHINE)],
        points=[make_point(vm) for vm in vms],
    )

    (found,) = flaws(HOST, fleet, settings())

    assert found.what == "6 VMs on alderaan are kept only in vault, on alderaan itself."
    assert found.evidence[0] == "VMs: a, b, c and 3 more"
    assert len(found.vms) == 6
    assert set(found.names) == {"alderaan", "vault", "a", "b", "c", "d", "e", "f"}


def test_the_same_host_is_told_with_how_it_is_known_and_how_to_correct_it() -> None:
    (found,) = flaws(HOST, fleet_of(), settings(on_host="alderaan"))

    assert found.severity is Severity.FAIL
    assert found.evidence[1] == 'vault: on_host = "alderaan" in the settings'
    assert "[repositories.vault]" in found.fix[1]


@pytest.mark.parametrize("kind", ["rack", "power", "site", "switch"])
def test_a_shared_place_is_told(kind: str) -> None:
    said = settings(host_places={kind: "p1"}, repository_places={kind: "p1"})

    (found,) = flaws("shared-place", fleet_of(machine="b" * 32), said)

    assert (found.subject, found.severity) == (f"{kind} p1", Severity.WARN)
    assert found.what == f"1 VM and all copies of it depend on the {kind} p1."
    assert {"alderaan", "vault", "web"} == set(found.names)


def test_each_shared_place_is_told_and_different_ones_are_not() -> None:
    said = settings(
        host_places={"rack": "r1", "power": "a", "site": "north"},
        repository_places={"rack": "r1", "power": "b", "site": "north"},
    )

    found = flaws("shared-place", fleet_of(machine="b" * 32), said)

    assert [each.subject for each in found] == ["rack r1", "site north"]


def test_different_places_are_fine_and_counted() -> None:
    said = settings(host_places={"rack": "r1"}, repository_places={"rack": "r2"})

    assert severities(findings("shared-place", fleet_of(machine="b" * 32), said)) == {"web": "ok"}


def test_what_is_not_declared_on_both_sides_says_nothing() -> None:
    said = settings(host_places={"rack": "r1"}, repository_places={"power": "a"})

    assert findings("shared-place", fleet_of(machine="b" * 32), said) == ()


def test_a_shared_disk_is_not_told_as_a_place_too() -> None:
    said = settings(host_places={"disk": "d"}, repository_places={"disk": "d"})

    assert findings("shared-place", fleet_of(), said) == ()


def test_a_copy_in_another_rack_is_enough() -> None:
    attic = Repository("attic", Path("/srv/attic"), places={"rack": "r2"})
    said = settings(host_places={"rack": "r1"}, repository_places={"rack": "r1"}, more=(attic,))
    fleet = fleet_of(machine="b" * 32, more=(make_repository("attic"),), also_in=("attic",))

    assert flaws("shared-place", fleet, said) == ()


def test_a_repository_on_a_host_is_where_that_host_is() -> None:
    said = settings(on_host="yavin", host_places={"rack": "r9", "site": "north"})

    assert [each.subject for each in flaws("shared-place", fleet_of(), said)] == ["rack r9"]


def test_a_repository_may_say_that_it_is_elsewhere_than_its_host() -> None:
    said = settings(on_host="yavin", host_places={"rack": "r9"}, repository_places={"rack": "r10"})

    assert flaws("shared-place", fleet_of(), said) == ()


def test_places_shared_because_of_one_host_are_not_told_again() -> None:
    said = settings(on_host="alderaan", host_places={"rack": "r1"}, repository_places={"rack": "r1"})

    assert findings("shared-place", fleet_of(), said) == ()
