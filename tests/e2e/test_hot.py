"""Hot backups of guests that write, restored elsewhere, booted, and held against what the guests had acknowledged."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.fleet import open_repository
from engine.hosts import image
from engine.hosts.model import VmState
from engine.lab.journal import ask_journal, prove, read_journal
from engine.point_files import open_files, write
from engine.repository import Consistency, Point
from tests.e2e.conftest import Operator

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("name", "to_host"),
    [("web", "coruscant"), pytest.param("db", "yavin", marks=pytest.mark.guests("db"))],
    ids=["qcow2", "two disks, qcow2 and raw"],
)
def test_a_restored_guest_has_every_acknowledged_write_and_none_from_later(operator: Operator, name: str, to_host: str):
    original = operator.vm(name)
    lane = operator.lanes[original.host]
    before = ask_journal(lane, original.uuid)

    point = operator.back_up(name)
    after = ask_journal(lane, original.uuid)
    restored = operator.restore(point, to_host)

    assert point.manifest.consistency is Consistency.FILESYSTEM
    assert after.boot_id == before.boot_id
    proof = prove((lane, original.uuid), (operator.lanes[to_host], restored.uuid), before, after)
    assert proof.compared_bytes > 0
    assert ask_journal(operator.lanes[to_host], restored.uuid).boots == before.boots + 1


@pytest.mark.guests("legacy")
def test_a_guest_without_an_agent_is_backed_up_as_after_a_power_cut_and_says_so(operator: Operator):
    point = operator.back_up("legacy")

    assert point.manifest.consistency is Consistency.CRASH
    assert "no channel" in point.manifest.consistency_note
    assert operator.vm("legacy").state is VmState.RUNNING
    assert operator.restore(point, "yavin").state is VmState.RUNNING


def test_a_vm_that_is_off_is_backed_up_without_being_started_and_comes_back_byte_for_byte(operator: Operator):
    original = operator.vm("build")

    point = operator.back_up("build")
    restored = operator.restore(point, "coruscant", start=False)

    assert operator.vm("build").state is VmState.OFF
    assert point.manifest.consistency is Consistency.OFF
    for before, after in zip(original.disks, restored.disks, strict=True):
        assert before.source
        assert after.source
        assert before.source != after.source
        assert image.same_content(before.source, after.source, formats=(before.format, after.format))


def test_the_restored_vm_is_a_new_one_and_the_original_is_as_it_was(operator: Operator):
    original = operator.vm("web")
    point = operator.back_up("web")

    restored = operator.restore(point, "yavin", start=False)

    assert restored.uuid != original.uuid
    assert restored.nics[0].mac != original.nics[0].mac
    now = operator.vm("web")
    # It writes on, so its disks may grow; nothing else is different.
    assert replace(now, disks=()) == replace(original, disks=())
    assert [disk.source for disk in now.disks] == [disk.source for disk in original.disks]


def test_a_second_backup_stores_only_what_changed(operator: Operator):
    first = operator.back_up("web")

    second = operator.back_up("web")

    assert second.manifest.new_bytes < first.manifest.read_bytes // 10


def journal_in(operator: Operator, point: Point, folder: Path) -> bytes:
    with open_repository(operator.settings.repositories[0]) as repository, open_files(repository, point) as opened:
        opened.volumes()
        write(opened.on("vda"), b"journal", folder)
    return (folder / "journal").read_bytes()


def test_a_single_file_comes_out_of_the_disk_with_all_that_its_guest_had_acknowledged(
    operator: Operator, tmp_path: Path
):
    original = operator.vm("web")
    lane = operator.lanes[original.host]
    before = ask_journal(lane, original.uuid)

    point = operator.back_up("web")
    after = ask_journal(lane, original.uuid)
    kept = journal_in(operator, point, tmp_path)

    assert before.acked_bytes <= len(kept) <= after.acked_bytes + 100
    assert read_journal(lane, original.uuid, len(kept)) == kept


@pytest.mark.guests("legacy")
def test_a_file_of_a_guest_that_was_not_frozen_is_whole_as_its_journal_says(operator: Operator, tmp_path: Path):
    point = operator.back_up("legacy")

    numbers = [int(line.split()[0]) for line in journal_in(operator, point, tmp_path).splitlines()]

    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
