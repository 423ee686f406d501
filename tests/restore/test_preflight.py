"""What stands in the way of a restore: each check, what it says, what to do, and what it means to go on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from engine.fleet import CheckState, FitnessCheck
from engine.hosts.answers import CpuAnswer, HostAnswers, Medium, PassedThrough
from engine.hosts.model import HostStatus, VmState
from engine.repository import Extent, Presence, VerifiedLast
from engine.repository.model import FileRecord
from engine.restore import Evidence, MacChoice, Mode, NetworkMapping, Request, RestorePlan, UuidChoice, plan
from engine.restore.evidence import OtherJob, RepositoryEvidence
from engine.restore.model import DiskTarget
from tests.builders import (
    GIB,
    make_disk_record,
    make_fleet,
    make_host,
    make_host_facts,
    make_point,
    make_pool,
    make_settings,
    make_vm,
    make_vm_facts,
)

WHOLE = RepositoryEvidence(blocks=Presence(4000, 0))
TAKEN = HostAnswers(taken_by_libvirt=True)
ASKED = Evidence(repository=WHOLE, answers=TAKEN, others=())


def planned(
    point: Any = None, *, evidence: Evidence = ASKED, fleet: Any = None, target: Any = None, **choices: Any
) -> RestorePlan:
    point = point or make_point("web")
    if fleet is None:
        hosts = [make_host("alderaan", vms=[make_vm("web")]), target or make_host("coruscant"), make_host("yavin")]
        fleet = make_fleet(hosts=hosts, points=[point])
    request = Request(point.repository, point.manifest.vm.uuid, point.id, "coruscant", **choices)
    return plan(make_settings(), fleet, request, evidence=evidence)


def check(made: RestorePlan, name: str) -> FitnessCheck:
    return next(each for each in made.checks if each.name == name)


def names(made: RestorePlan) -> list[str]:
    return [each.name for each in made.checks]


def of_answers(**answers: Any) -> Evidence:
    return structs.replace(ASKED, answers=structs.replace(TAKEN, **answers))


def of_repository(**changes: Any) -> Evidence:
    return structs.replace(ASKED, repository=structs.replace(WHOLE, **changes))


def test_a_healthy_restore_beside_a_running_original_has_one_thing_to_accept():
    made = planned()

    assert not made.blocked
    assert [each.name for each in made.checks if each.flawed] == ["original"]


def test_every_check_has_a_name_of_its_own_and_evidence():
    made = planned(make_point("web", disks=(make_disk_record(), make_disk_record(target="vdb"))))

    assert len(set(names(made))) == len(made.checks)
    assert all(each.evidence for each in made.checks)


def test_whatever_speaks_against_it_says_what_to_do_and_what_it_means():
    facts = make_host_facts("coruscant", machines=("pc-q35-6.2",), kvm=False, efi=False, tpm=False, memory_free_bytes=1)
    vm = make_vm_facts(
        "web", tpm=True, firmware="efi", vcpus=99, nics=("network:dmz", "bridge:br9"), macs=("52:54:00:00:00:01",) * 2
    )
    target = make_host("coruscant", facts=facts, vms=[make_vm("shop")], pools=(make_pool(available=GIB // 2),))

    made = planned(
        make_point(vm),
        target=target,
        name="shop",
        uuid=UuidChoice.KEEP,
        macs=MacChoice.KEEP,
        evidence=of_repository(blocks=Presence(10, 3, ("vda",))),
    )

    flawed = [each for each in made.checks if each.flawed]
    assert len(flawed) >= 11
    assert all(each.remedy and each.meaning for each in flawed)


# ---------------------------------------------------------------- the repository


def test_without_evidence_what_needs_it_is_skipped_and_says_so():
    made = planned(evidence=Evidence())

    assert check(made, "blocks").state is CheckState.SKIP
    assert check(made, "definition").state is CheckState.SKIP
    assert not made.blocked


def test_a_repository_that_cannot_be_opened_blocks():
    lost = RepositoryEvidence(failure="The passphrase of vault is wrong.", next_step="give the right one")

    made = planned(evidence=structs.replace(ASKED, repository=lost))

    assert check(made, "repository").state is CheckState.FAIL
    assert check(made, "repository").remedy == "give the right one"


def test_missing_blocks_block_and_are_told_with_the_disks_they_belong_to():
    made = planned(evidence=of_repository(blocks=Presence(4000, 17, ("vda", "nvram"))))

    found = check(made, "blocks")
    assert found.state is CheckState.FAIL
    assert "17 of the 4,000" in found.evidence
    assert "vda, nvram" in found.evidence


def test_a_salvage_goes_on_without_the_missing_blocks():
    made = planned(evidence=of_repository(blocks=Presence(4000, 17, ("vda",))), salvage=True)

    assert check(made, "blocks").state is CheckState.WARN
    assert not made.blocked


def test_blocks_that_were_not_all_looked_up_are_no_pass():
    found = check(planned(evidence=of_repository(blocks=Presence(4000, 0, whole=False))), "blocks")

    assert found.state is CheckState.SKIP
    assert "repo verify vault" in found.remedy


@pytest.mark.parametrize("encrypted", [True, False])
def test_the_key_is_part_of_the_evidence(encrypted: bool):
    assert (
        "passphrase opens it" in check(planned(evidence=of_repository(encrypted=encrypted)), "keys").evidence
    ) is encrypted


@pytest.mark.parametrize("hurt", [(), ("0" * 16,)], ids=["nothing", "another point"])
def test_a_verification_that_found_nothing_of_it_is_a_pass(hurt: tuple[str, ...]):
    last = VerifiedLast(Extent.FULL, datetime(2026, 11, 22, tzinfo=UTC), 1, hurt)

    assert check(planned(evidence=of_repository(verified=last)), "verified").state is CheckState.PASS


def test_a_point_that_the_last_verification_found_damaged_is_warned_of():
    point = make_point("web")
    last = VerifiedLast(Extent.FULL, datetime(2026, 11, 22, tzinfo=UTC), 1, (point.id,))

    assert check(planned(point, evidence=of_repository(verified=last)), "verified").state is CheckState.WARN


# ---------------------------------------------------------------- the host's own word


def test_a_definition_that_libvirt_would_refuse_blocks_with_its_words():
    made = planned(evidence=of_answers(taken_by_libvirt=False, refusal="Maximum CPUs greater than specified limit"))

    assert check(made, "definition").state is CheckState.FAIL
    assert "Maximum CPUs" in check(made, "definition").evidence


def test_a_refusal_that_is_explained_already_is_not_told_twice():
    point = make_point(make_vm_facts("web", machine="pc-q35-9.0"))
    refused = of_answers(taken_by_libvirt=False, refusal="unsupported machine type")

    assert "definition" not in names(planned(point, evidence=refused))


@pytest.mark.parametrize(
    ("answer", "state"),
    [(CpuAnswer.FITS, "pass"), (CpuAnswer.DOES_NOT_FIT, "fail"), (CpuAnswer.NOT_SAID, "pass")],
)
def test_a_cpu_is_judged_by_what_the_host_says_to_its_features(answer: CpuAnswer, state: str):
    point = make_point(make_vm_facts("web", cpu_mode="custom", cpu_model="Haswell-noTSX"))

    found = check(planned(point, evidence=of_answers(cpu=answer, cpu_reason="pcid, x2apic")), "CPU")

    assert found.state == state
    assert state == "pass" or ("pcid, x2apic" in found.evidence and "--cpu host-model" in found.remedy)


def test_another_cpu_that_was_chosen_lifts_the_failure():
    point = make_point(make_vm_facts("web", cpu_mode="custom", cpu_model="Haswell-noTSX"))

    made = planned(point, cpu="host-model", evidence=of_answers(cpu=CpuAnswer.NOT_SAID))

    assert check(made, "CPU").state is CheckState.PASS
    assert "--cpu host-model" in made.command


def test_a_cpu_that_was_chosen_and_is_not_there_blocks():
    found = check(planned(cpu="FooLake"), "CPU")

    assert found.state is CheckState.FAIL
    assert "--cpu host-model" in found.remedy


def test_another_machine_type_that_was_chosen_lifts_the_failure_and_is_warned_of():
    point = make_point(make_vm_facts("web", machine="pc-q35-9.0"))

    blocked, made = planned(point), planned(point, machine="pc-q35-7.2")

    assert blocked.blocked
    assert "--machine pc-q35-7.2" in check(blocked, "machine type").remedy
    assert not made.blocked
    assert check(made, "other machine type").state is CheckState.WARN
    assert "--machine pc-q35-7.2" in made.command


def test_a_machine_type_that_is_not_there_either_blocks():
    assert planned(machine="pc-q35-9.9").blocked


def test_names_that_are_taken_block():
    made = planned(evidence=of_answers(taken=("volume web-vda.qcow2 in pool default", "/var/nvram/web_VARS.fd")))

    assert check(made, "paths").state is CheckState.FAIL
    assert "/var/nvram/web_VARS.fd" in check(made, "paths").evidence


@pytest.mark.parametrize(
    ("start", "in_point", "state"),
    [(True, (), "fail"), (False, (), "warn"), (True, ("5ec",), "pass")],
)
def test_a_secret_that_is_missing_must_come_from_the_point(start: bool, in_point: tuple[str, ...], state: str):
    evidence = structs.replace(of_answers(missing_secrets=("5ec",)), secrets_in_point=in_point)

    assert check(planned(evidence=evidence, start=start), "secrets").state == state


@pytest.mark.parametrize(
    ("there", "words"),
    [(True, "virsh change-media web-restored sda /iso/a.iso --insert"), (False, "copy the image"), (None, "copy")],
)
def test_drives_come_back_empty_and_how_to_fill_them_is_told(there: bool | None, words: str):
    found = check(planned(evidence=of_answers(media=(Medium("sda", "/iso/a.iso", there),))), "media")

    assert found.state is CheckState.WARN
    assert words in found.remedy
    assert not found.by_name


def test_devices_that_were_passed_through_are_looked_for():
    point = make_point(make_vm_facts("web", host_devices=("usb 0951:1666", "pci 0000:01:00.0")))
    seen = (PassedThrough("usb 0951:1666", True), PassedThrough("pci 0000:01:00.0", False))

    found = check(planned(point, evidence=of_answers(devices=seen)), "devices")

    assert "coruscant has usb 0951:1666" in found.evidence
    assert "coruscant has no pci 0000:01:00.0" in found.evidence


def test_firmware_that_the_definition_names_by_its_path_must_be_there():
    point = make_point(make_vm_facts("web", firmware="efi"))

    assert not planned(point).blocked
    assert planned(point, evidence=of_answers(missing_loader="/usr/share/OVMF/OVMF_CODE.fd")).blocked


def test_what_tied_it_to_its_old_host_is_told():
    found = check(planned(evidence=of_answers(left_behind=("huge pages of 2 MiB",))), "old host")

    assert found.state is CheckState.WARN
    assert "huge pages of 2 MiB" in found.evidence


def saved(**changes: Any) -> Any:
    memory = FileRecord("saved-state", "memory and devices", 3 * GIB, "ab" * 32, 1)
    return make_point("web", files=(memory,), **changes)


@pytest.mark.parametrize(
    ("saved_with", "blocked"), [("7.2.22", True), ("7.2.0", False), ("6.2.0", False), ("10.0.2", True), ("", False)]
)
def test_memory_goes_on_only_in_a_qemu_that_is_not_older(saved_with: str, blocked: bool):
    fleet = make_fleet(hosts=[make_host("alderaan"), make_host("coruscant")], points=[saved()])

    made = planned(saved(), fleet=fleet, evidence=structs.replace(ASKED, saved_with=saved_with))

    assert made.request.memory
    assert made.blocked is blocked
    assert not blocked or "--no-memory" in check(made, "versions").remedy


# ---------------------------------------------------------------- room


def room(available: int, **changes: Any) -> Any:
    return make_host("coruscant", pools=(make_pool(available=available, **changes),))


@pytest.mark.parametrize(
    ("available", "state", "by_name"),
    [(2 * GIB, "pass", False), (GIB + GIB // 20, "warn", True), (GIB // 2, "fail", False)],
)
def test_a_pool_keeps_a_tenth_in_reserve_and_less_is_accepted_by_name(available: int, state: str, by_name: bool):
    found = check(planned(target=room(available)), "pool")

    assert (found.state, found.by_name) == (state, by_name)


def test_what_other_restores_will_write_there_is_not_free():
    other = OtherJob(7, "restore", "shop", "coruscant", "default", 3 * GIB)
    elsewhere = OtherJob(8, "restore", "shop", "yavin", "default", 3 * GIB)

    tight = planned(target=room(2 * GIB), evidence=structs.replace(ASKED, others=(other,)))
    wide = planned(target=room(2 * GIB), evidence=structs.replace(ASKED, others=(elsewhere,)))

    assert check(tight, "pool").state is CheckState.FAIL
    assert "other restores will write 3 GiB" in check(tight, "pool").evidence
    assert check(wide, "pool").state is CheckState.PASS


@pytest.mark.parametrize(("kind", "blocked"), [("dir", False), ("logical", True)])
def test_a_pool_without_sparse_volumes_needs_the_whole_disk(kind: str, blocked: bool):
    # 1 GiB of data on a disk of 10 GiB.
    assert planned(target=room(5 * GIB, kind=kind)).blocked is blocked


def test_a_thin_disk_that_may_outgrow_its_pool_is_warned_of():
    found = check(planned(target=room(5 * GIB)), "growth")

    assert found.state is CheckState.WARN
    assert "may grow to 10 GiB" in found.evidence
    assert "growth" not in names(planned(target=room(50 * GIB)))


def test_the_guests_memory_needs_room_too():
    fleet = make_fleet(hosts=[make_host("alderaan"), room(2 * GIB)], points=[saved()])

    assert check(planned(saved(), fleet=fleet), "pool").state is CheckState.FAIL
    assert check(planned(saved(), fleet=fleet, memory=False), "pool").state is CheckState.PASS


def test_each_pool_is_checked_for_what_goes_there():
    point = make_point("web", disks=(make_disk_record(), make_disk_record(target="vdb", data_bytes=8 * GIB)))
    target = make_host("coruscant", pools=(make_pool(available=99 * GIB), make_pool("fast", available=4 * GIB)))

    made = planned(point, target=target, pool="default", disks=(DiskTarget("vdb", pool="fast"),))

    assert check(made, "pool").state is CheckState.PASS
    assert check(made, "pool fast").state is CheckState.FAIL
    assert "--pool default" in check(made, "pool fast").remedy
    assert check(made, "pool fast").key == "pool-fast"


def test_a_pool_that_is_off_is_answered_with_the_command_that_starts_it():
    target = make_host("coruscant", pools=(make_pool(active=False), make_pool("fast")))

    found = check(planned(target=target, pool="default"), "pool")

    assert found.state is CheckState.FAIL
    assert "pool-start default" in found.remedy
    assert "--pool fast" in found.remedy


def test_a_device_is_overwritten_only_when_it_is_accepted_by_name():
    found = check(planned(disks=(DiskTarget("vda", device="/dev/sdx"),)), "device")

    assert (found.state, found.by_name) == (CheckState.WARN, True)


def test_a_device_of_another_vm_is_never_overwritten():
    owner = make_vm("shop", disks=(structs.replace(make_vm().disks[0], source="/dev/sdx"),))

    assert planned(target=make_host("coruscant", vms=[owner]), disks=(DiskTarget("vda", device="/dev/sdx"),)).blocked


def test_disks_alone_need_no_cpu_no_network_and_no_name():
    made = planned(mode=Mode.DISKS, evidence=structs.replace(ASKED, answers=None))

    assert {"CPU", "network", "name", "original", "definition", "machine type"}.isdisjoint(names(made))
    assert {"host", "pool", "blocks", "repository"} <= set(names(made))


# ---------------------------------------------------------------- identity


def silent(name: str, status: HostStatus, vms: Any = ()) -> Any:
    return make_host(name, status=status, **({"vms": vms} if status is HostStatus.STALE else {}))


ISOLATED = (NetworkMapping(0, "isolated"),)
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


def test_who_is_on_no_network_meets_its_original_nowhere_however_that_is():
    for state in HostStatus:
        hosts = [make_host("alderaan", status=state, vms=[make_vm("web")]), make_host("coruscant")]
        fleet = make_fleet(hosts=hosts, points=[make_point("web")])

        assert check(planned(fleet=fleet, networks=ISOLATED), "original").state is CheckState.PASS


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


@pytest.mark.parametrize("start", [True, False])
def test_memory_that_is_not_free_is_accepted_by_name_before_a_start(start: bool):
    target = make_host("coruscant", facts=make_host_facts("coruscant", memory_free_bytes=GIB))

    assert check(planned(target=target, start=start), "memory").by_name is start


# ---------------------------------------------------------------- work


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


def test_other_jobs_on_the_target_are_told():
    other = OtherJob(7, "restore", "shop", "coruscant", "default", 0)

    assert "job 7" in check(planned(evidence=structs.replace(ASKED, others=(other,))), "other jobs").evidence


def test_a_test_that_would_reach_somebody_blocks():
    made = planned(mode=Mode.TEST, networks=(NetworkMapping(0, "default"),))

    assert check(made, "isolation").state is CheckState.FAIL
