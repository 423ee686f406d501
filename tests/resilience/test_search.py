"""All checks together: order, counts, no alarm on a healthy fleet, and sentences an operator can act on."""

from __future__ import annotations

import pytest

from engine.fleet import DiskDevice, Fleet
from engine.hosts.model import AgentState, HostStatus, VmState
from engine.repository.model import DamagedObject
from engine.resilience import CHECKS, Counts, Finding, Severity, concerning, count, find
from engine.resilience.search import in_order
from engine.settings import Settings
from tests.builders import (
    NOW,
    make_fleet,
    make_host,
    make_host_facts,
    make_level,
    make_point,
    make_repository,
    make_settings,
    make_vm,
    uuid_of,
)

TWO_REPOSITORIES = [make_repository("vault"), make_repository("attic")]
SETTINGS = make_settings(repositories=("vault", "attic"))


def healthy_fleet() -> Fleet:
    return make_fleet(repositories=TWO_REPOSITORIES, points=[make_point("web", age="10m")])


def broken_fleet() -> tuple[Settings, Fleet]:
    """Everything that can be wrong at once."""
    settings = make_settings(
        repositories=("vault", "attic", "cellar"),
        levels=[make_level("gold", rpo="1h", copies=2, vms=("[!x]*",))],
    )
    here = make_host_facts("alderaan", machine_id="m" * 32)
    vms = [
        make_vm("web"),
        make_vm("db", agent=AgentState.ABSENT, tpm=True),
        make_vm("mail", agent=AgentState.DISCONNECTED),
        make_vm("x-lab", state=VmState.OFF),
        make_vm("new"),
    ]
    fleet = make_fleet(
        hosts=[
            make_host("alderaan", vms=vms, facts=here),
            make_host("coruscant", facts=make_host_facts("coruscant", tpm=False, kvm=False)),
            make_host("yavin", status=HostStatus.STALE, vms=[make_vm("files")]),
        ],
        repositories=[
            make_repository("vault", machine_id="m" * 32, damaged=(DamagedObject("packs/ab/cd", "its hash differs"),)),
            make_repository("attic", reachable=False),
            make_repository("cellar"),
        ],
        points=[
            make_point(name, age=age) for name, age in (("web", "2h"), ("db", "5m"), ("mail", "1m"), ("files", "9h"))
        ],
        disk_devices=[DiskDevice("alderaan", "/var/lib/libvirt/images/web.qcow2", "/sys/devices/keep/sdz")],
    )
    return settings, fleet


def test_a_healthy_fleet_has_no_flaw_and_counts_what_was_looked_at() -> None:
    found = find(SETTINGS, healthy_fleet(), NOW)

    assert [each for each in found if each.severity is not Severity.OK] == []
    assert count(found).ok == len(found) > 10


def test_an_empty_fleet_has_nothing_to_find() -> None:
    assert find(make_settings(hosts=[], repositories=[]), make_fleet(hosts=[], repositories=[]), NOW) == ()


def test_the_worst_comes_first_and_within_one_severity_the_gravest_check() -> None:
    found = find(*broken_fleet(), NOW)

    ranks = [(tuple(Severity).index(each.severity), CHECKS.index(each.check), each.subject) for each in found]
    assert ranks == sorted(ranks)


def test_each_check_speaks_once_of_each_subject() -> None:
    found = find(*broken_fleet(), NOW)

    assert len({(each.check, each.subject) for each in found}) == len(found)


def test_of_two_findings_on_one_subject_the_worse_remains() -> None:
    check = CHECKS[0]
    bad, good = (Finding(check, severity, "a", "A sentence.") for severity in (Severity.FAIL, Severity.OK))

    assert in_order([good, bad]) == (bad,)


def test_every_check_signs_with_a_listed_id() -> None:
    assert {each.check for each in find(*broken_fleet(), NOW)} <= set(CHECKS)


@pytest.mark.parametrize(
    "finding",
    [each for each in find(*broken_fleet(), NOW) if each.severity is not Severity.OK],
    ids=lambda finding: f"{finding.check}-{finding.subject}",
)
def test_every_flaw_is_a_sentence_with_reason_evidence_and_a_way_out(finding: Finding) -> None:
    assert finding.what.endswith(".")
    assert finding.why.endswith(".")
    assert finding.evidence
    assert finding.fix
    for line in (finding.what, finding.why, *finding.evidence, *finding.fix):
        assert "  " not in line
        assert "None" not in line
        assert "\n" not in line
        assert line.count("`") % 2 == 0


def test_the_broken_fleet_shows_every_kind_of_trouble() -> None:
    flawed = {each.check for each in find(*broken_fleet(), NOW) if each.severity is not Severity.OK}

    assert flawed == set(CHECKS) - {"shared-place", "not-proven"}


def test_findings_are_counted_by_severity() -> None:
    found = [Finding("no-level", severity, "a", "b.") for severity in (Severity.FAIL, Severity.FAIL, Severity.UNKNOWN)]

    assert count(found) == Counts(fail=2, unknown=1)


def test_the_title_of_a_check_is_its_id_in_words() -> None:
    assert Finding("one-copy-only", Severity.OK, "a", "b.").title == "one copy only"


def test_findings_about_a_name_are_those_it_has_any_part_in() -> None:
    found = (
        Finding("no-agent", Severity.WARN, "web", "x."),
        Finding("shared-place", Severity.WARN, "rack r1", "x.", names=("alderaan", "web")),
        Finding("no-level", Severity.WARN, "db", "x.", vms=(uuid_of("db"),)),
    )

    assert concerning(found, "web") == found[:2]
    assert concerning(found, "alderaan") == found[1:2]
    assert concerning(found, uuid_of("db")) == found[2:]
    assert concerning(found, "nobody") == ()


def test_a_removed_vm_is_no_trouble() -> None:
    fleet = make_fleet(
        repositories=TWO_REPOSITORIES, points=[make_point("web", age="10m"), make_point("old", age="90d")]
    )

    assert concerning(find(SETTINGS, fleet, NOW), "old") == ()


def test_two_vms_of_one_name_are_told_apart_by_their_host() -> None:
    hosts = [
        make_host("alderaan", vms=[make_vm("web", uuid=uuid_of("first"))]),
        make_host("yavin", vms=[make_vm("web", uuid=uuid_of("second"))]),
    ]

    found = [each for each in find(SETTINGS, make_fleet(hosts=hosts), NOW) if each.check == "no-recovery-point"]

    assert [each.subject for each in found] == ["web on alderaan", "web on yavin"]
    assert found[1].fix == ("`newhope backup web --host yavin`",)
