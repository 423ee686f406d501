"""VMs that could be brought up on no other host."""

from __future__ import annotations

from typing import Any

import pytest

from engine.hosts.model import HostSnapshot, HostStatus, VmState
from engine.resilience import Severity
from engine.settings import Host
from tests.builders import (
    GIB,
    make_disk,
    make_fleet,
    make_host,
    make_host_facts,
    make_network,
    make_point,
    make_pool,
    make_settings,
    make_vm,
    make_vm_facts,
)
from tests.resilience.finding_of import findings, flaws, severities

CHECK = "no-other-host"


def other(name: str = "coruscant", **facts: Any) -> HostSnapshot:
    return make_host(name, facts=make_host_facts(name, **facts))


def with_others(*others: HostSnapshot, **vm: Any) -> list[HostSnapshot]:
    return [make_host("alderaan", vms=[make_vm("web", **vm)]), *others]


def test_a_vm_that_fits_elsewhere_is_fine_and_says_where() -> None:
    (found,) = findings(CHECK, make_fleet(hosts=with_others(other("coruscant"), other("yavin"))))

    assert found.severity is Severity.OK
    assert found.what == "web would also run on coruscant and yavin."


@pytest.mark.parametrize(
    ("vm", "facts", "severity"),
    [
        ({"firmware": "efi"}, {"efi": False}, "fail"),
        ({"tpm": True}, {"tpm": False}, "fail"),
        ({"machine": "pc-q35-9.0"}, {}, "warn"),
        ({"machine": "microvm"}, {}, "fail"),
        ({"memory_bytes": 99 * GIB}, {}, "fail"),
        ({"memory_bytes": 40 * GIB}, {}, "warn"),
        ({}, {"kvm": False}, "warn"),
        ({"state": VmState.OFF, "tpm": True}, {"tpm": False}, "fail"),
    ],
)
def test_a_vm_is_held_against_the_other_hosts(vm: dict[str, Any], facts: dict[str, Any], severity: str) -> None:
    fleet = make_fleet(hosts=with_others(other(**facts), **vm))

    assert severities(findings(CHECK, fleet)) == {"web": severity}


def test_one_host_that_fits_is_enough() -> None:
    fleet = make_fleet(hosts=with_others(other("coruscant", tpm=False), other("yavin"), tpm=True))

    assert severities(findings(CHECK, fleet)) == {"web": "ok"}


def test_a_vm_that_fits_nowhere_says_why_for_each_host_and_what_mends_the_nearest() -> None:
    hosts = with_others(
        other("coruscant", tpm=False, efi=False),
        other("yavin", tpm=False),
        make_host("hoth", status=HostStatus.OFFLINE),
        tpm=True,
        firmware="efi",
    )

    (found,) = flaws(CHECK, make_fleet(hosts=hosts))

    assert found.what == "No other host can run web; yavin comes nearest."
    assert found.evidence == (
        "web has a TPM, yavin cannot emulate one",
        "web needs EFI firmware, coruscant has none",
        "hoth: cannot be asked, it does not answer",
    )
    assert len(found.fix) == 1
    assert "swtpm" in found.fix[0]


def test_what_the_newest_point_needs_counts_as_well_as_what_the_vm_needs_now() -> None:
    point = make_point(make_vm_facts("web", firmware="efi"))
    hosts = with_others(other(efi=False))

    assert severities(findings(CHECK, make_fleet(hosts=hosts, points=[point]))) == {"web": "fail"}


def test_a_vm_of_a_dead_host_is_judged_by_its_newest_point() -> None:
    point = make_point(make_vm_facts("web", tpm=True))
    hosts = [make_host("alderaan", status=HostStatus.OFFLINE), other(tpm=False)]

    assert severities(flaws(CHECK, make_fleet(hosts=hosts, points=[point]))) == {"web": "fail"}


@pytest.mark.parametrize(("allocated", "severity"), [(10, "ok"), (500, "fail")])
def test_without_a_point_the_disks_as_they_are_must_find_room(allocated: int, severity: str) -> None:
    disks = (
        make_disk(allocation_bytes=allocated * GIB),
        make_disk("sda", device="cdrom", allocation_bytes=900 * GIB),
    )

    assert severities(findings(CHECK, make_fleet(hosts=with_others(other(), disks=disks)))) == {"web": severity}


def test_the_pool_that_the_settings_name_for_a_host_is_the_one_that_counts() -> None:
    pools = (make_pool("small", available=GIB), make_pool("large", available=900 * GIB))
    hosts = with_others(make_host("coruscant", pools=pools))
    fleet = make_fleet(hosts=hosts, points=[make_point("web", size_bytes=50 * GIB)])
    uri = "qemu+ssh://root@coruscant/system"

    small = make_settings(hosts=("alderaan", Host("coruscant", uri, pool="small")))
    large = make_settings(hosts=("alderaan", Host("coruscant", uri, pool="large")))

    assert severities(findings(CHECK, fleet, small)) == {"web": "warn"}
    assert severities(findings(CHECK, fleet, large)) == {"web": "ok"}


def test_a_network_that_is_only_named_otherwise_is_a_change_not_a_failure() -> None:
    hosts = with_others(make_host("coruscant", networks=(make_network("prod"),)))

    (found,) = flaws(CHECK, make_fleet(hosts=hosts))

    assert found.severity is Severity.WARN
    assert "as it is" in found.what


def test_an_only_host_is_one_finding_for_all_its_vms() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[make_vm("web"), make_vm("db")])])

    (found,) = findings(CHECK, fleet)

    assert (found.subject, found.severity) == ("alderaan", Severity.FAIL)
    assert found.what == "alderaan is the only host; 2 VMs can run nowhere else."
    assert found.names == ("web", "db")


def test_while_all_other_hosts_are_silent_it_cannot_be_told() -> None:
    (found,) = flaws(CHECK, make_fleet(hosts=with_others(make_host("yavin", status=HostStatus.STALE))))

    assert (found.subject, found.severity) == ("alderaan", Severity.UNKNOWN)
    assert "yavin does not answer" in found.what
    assert found.fix == ("ping yavin",)


def test_a_host_without_vms_is_not_lonely() -> None:
    assert findings(CHECK, make_fleet(hosts=[make_host("alderaan")])) == ()
