"""What stands in the way of a restore: each check, what it says, what to do, and what it means to go on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec import structs

from engine.fleet import CheckState
from engine.hosts.answers import CpuAnswer, Medium, PassedThrough
from engine.hosts.model import HostStatus
from engine.repository import Extent, Presence, VerifiedLast
from engine.restore import Evidence, MacChoice, Mode, UuidChoice
from engine.restore.evidence import OtherJob, RepositoryEvidence
from tests.builders import (
    GIB,
    make_disk_record,
    make_fleet,
    make_host,
    make_host_facts,
    make_point,
    make_pool,
    make_vm,
    make_vm_facts,
)
from tests.restore.planning import ASKED, ISOLATED, check, names, of_answers, of_repository, planned, saved


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


@pytest.mark.parametrize(
    ("saved_with", "blocked"), [("7.2.22", True), ("7.2.0", False), ("6.2.0", False), ("10.0.2", True), ("", False)]
)
def test_memory_goes_on_only_in_a_qemu_that_is_not_older(saved_with: str, blocked: bool):
    fleet = make_fleet(hosts=[make_host("alderaan"), make_host("coruscant")], points=[saved()])

    made = planned(saved(), fleet=fleet, evidence=structs.replace(ASKED, saved_with=saved_with))

    assert made.request.memory
    assert made.blocked is blocked
    assert not blocked or "--no-memory" in check(made, "versions").remedy


def test_disks_alone_need_no_cpu_no_network_and_no_name():
    made = planned(mode=Mode.DISKS, evidence=structs.replace(ASKED, answers=None))

    assert {"CPU", "network", "name", "original", "definition", "machine type"}.isdisjoint(names(made))
    assert {"host", "pool", "blocks", "repository"} <= set(names(made))


def test_who_is_on_no_network_meets_its_original_nowhere_however_that_is():
    for state in HostStatus:
        hosts = [make_host("alderaan", status=state, vms=[make_vm("web")]), make_host("coruscant")]
        fleet = make_fleet(hosts=hosts, points=[make_point("web")])

        assert check(planned(fleet=fleet, networks=ISOLATED), "original").state is CheckState.PASS


def test_other_jobs_on_the_target_are_told():
    other = OtherJob(7, "restore", "shop", "coruscant", "default", 0)

    assert "job 7" in check(planned(evidence=structs.replace(ASKED, others=(other,))), "other jobs").evidence
