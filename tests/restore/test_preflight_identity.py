"""Who else is that VM, or has its addresses, where the restore goes and on hosts that are silent."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from engine.fleet import CheckState
from engine.hosts.model import HostStatus, VmState
from engine.restore import MacChoice, Mode, NetworkMapping, UuidChoice
from engine.restore.evidence import OtherJob
from tests.builders import make_fleet, make_host, make_point, make_vm
from tests.restore.planning import ASKED, ISOLATED, check, planned


def silent(name: str, status: HostStatus, vms: Any = ()) -> Any:
    return make_host(name, status=status, **({"vms": vms} if status is HostStatus.STALE else {}))


OWN = (NetworkMapping(0, "user"),)


@pytest.mark.parametrize(
    ("choices", "by_name"),
    [({}, True), ({"networks": OWN}, False), ({"start": False}, False)],
)
def test_a_running_original_is_accepted_by_name_where_both_would_be_on_a_network(
    choices: dict[str, Any], by_name: bool
):
    found = check(planned(**choices), "original")

    assert (found.state, found.by_name) == (CheckState.WARN, by_name)


def test_an_original_that_is_off_is_no_danger():
    fleet = make_fleet(
        hosts=[make_host("alderaan", vms=[make_vm("web", state=VmState.OFF)]), make_host("coruscant")],
        points=[make_point("web")],
    )

    assert check(planned(fleet=fleet), "original").state is CheckState.PASS


def test_of_several_originals_the_one_that_runs_is_told():
    hosts = [
        make_host("alderaan", vms=[make_vm("web", state=VmState.OFF)]),
        make_host("coruscant"),
        make_host("yavin", vms=[make_vm("web")]),
    ]

    found = check(planned(fleet=make_fleet(hosts=hosts, points=[make_point("web")])), "original")

    assert found.state is CheckState.WARN
    assert "running on yavin" in found.evidence


def test_an_original_on_a_silent_host_may_still_run():
    hosts = [silent("alderaan", HostStatus.STALE, (make_vm("web"),)), make_host("coruscant")]

    found = check(planned(fleet=make_fleet(hosts=hosts, points=[make_point("web")])), "original")

    assert (found.state, found.by_name) == (CheckState.WARN, True)
    assert "stays off when alderaan returns" in found.remedy


@pytest.mark.parametrize(("silent_host", "by_name"), [("alderaan", True), ("yavin", False)])
def test_of_a_host_that_was_never_seen_nobody_can_tell(silent_host: str, by_name: bool):
    others = [name for name in ("alderaan", "yavin") if name != silent_host]
    hosts = [silent(silent_host, HostStatus.OFFLINE), make_host("coruscant"), *(make_host(name) for name in others)]

    found = check(planned(fleet=make_fleet(hosts=hosts, points=[make_point("web")])), "original")

    assert (found.state, found.by_name) == (CheckState.WARN, by_name)
    assert silent_host in found.evidence


def test_a_uuid_that_a_silent_host_has_too_is_accepted_by_name():
    hosts = [silent("alderaan", HostStatus.STALE, (make_vm("web"),)), make_host("coruscant")]

    made = planned(fleet=make_fleet(hosts=hosts, points=[make_point("web")]), uuid=UuidChoice.KEEP)

    assert check(made, "UUID").state is CheckState.WARN
    assert check(made, "UUID").by_name


def test_a_uuid_that_another_vm_has_blocks_even_if_a_silent_host_has_it_as_well():
    hosts = [
        silent("alderaan", HostStatus.STALE, (make_vm("web"),)),
        make_host("coruscant"),
        make_host("yavin", vms=[make_vm("web")]),
    ]

    made = planned(fleet=make_fleet(hosts=hosts, points=[make_point("web")]), uuid=UuidChoice.KEEP)

    assert check(made, "UUID").state is CheckState.FAIL


@pytest.mark.parametrize(("networks", "by_name"), [((), True), (ISOLATED, False)])
def test_kept_addresses_are_accepted_by_name_where_they_meet(networks: tuple[NetworkMapping, ...], by_name: bool):
    found = check(planned(macs=MacChoice.KEEP, networks=networks), "MAC addresses")

    assert (found.state, found.by_name, found.key) == (CheckState.WARN, by_name, "mac-addresses")


def busy(job: str | None) -> Any:
    hosts = [make_host("alderaan", vms=[make_vm("web", job=job)]), make_host("coruscant")]
    return make_fleet(hosts=hosts, points=[make_point("web")])


def test_an_original_that_is_being_backed_up_is_replaced_only_by_name():
    found = check(planned(fleet=busy("a backup by newhope"), mode=Mode.REPLACE), "other jobs")

    assert (found.state, found.by_name) == (CheckState.WARN, True)
    assert "a backup by newhope" in found.evidence


def test_a_backup_that_is_queued_here_counts_too():
    other = OtherJob(7, "backup", "web", "alderaan")

    made = planned(mode=Mode.REPLACE, evidence=structs.replace(ASKED, others=(other,)))

    assert check(made, "other jobs").by_name


def test_beside_a_busy_original_nothing_is_cut_off():
    assert check(planned(fleet=busy("a backup by newhope")), "other jobs").state is CheckState.PASS


def test_a_test_that_would_reach_somebody_blocks():
    made = planned(mode=Mode.TEST, networks=(NetworkMapping(0, "default"),))

    assert check(made, "isolation").state is CheckState.FAIL
