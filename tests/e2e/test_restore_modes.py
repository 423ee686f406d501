"""Each way to restore, its bytes and guests held against the recovery point, and what the next backup reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine import restore
from engine.cli.launching import launch_settlement
from engine.fleet import open_repository
from engine.hosts import HostLanes, image, power, take_snapshot, volumes
from engine.hosts.model import VmState
from engine.jobs import Job, Journal, run
from engine.lab import Lab
from engine.lab.journal import ask_journal, prove
from engine.repository import Consistency, Point
from engine.restore import AtEnd, Mode, Phase, RestoreJournal, RestoreReport, Settlement, adopt
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.hosts.live import lab_of_its_own

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan", "coruscant"), guests=("web",)) as lab:
        yield lab


@pytest.fixture
def op(small: Lab) -> Iterator[Operator]:
    with HostLanes(small.settings) as lanes, Journal(small.settings.state) as journal:
        at_work = Operator(small, lanes, journal)
        yield at_work
        at_work.remove_restored()


def settle(op: Operator, identity: str, end: AtEnd, *, delete_original: bool = False) -> Job:
    entry = RestoreJournal(op.settings.state).find(identity)
    job = op.finish(launch_settlement(op.settings, op.journal, entry, Settlement(identity, end, delete_original)))
    assert job.failure is None, job.failure
    return job


def holds_the_point(op: Operator, point: Point, path: Path, image_format: str) -> None:
    raw = op.settings.state / "read-back.raw"
    subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", path, raw], check=True)
    record = point.manifest.disks[0]
    kept = op.settings.repositories[0]
    with open_repository(kept) as repository, repository.reader() as reader, raw.open("rb") as copied:
        for offset in range(0, record.size_bytes, 4 << 20):
            length = min(4 << 20, record.size_bytes - offset)
            assert copied.read(length) == reader.read_range(record, offset, length), offset
    raw.unlink()


def test_disks_only_writes_what_the_point_has_and_defines_nothing(op: Operator):
    point = op.back_up("web")
    lane = op.lanes["coruscant"]
    known = take_snapshot(lane).vms

    for image_format in ("raw", "qcow2"):
        plan = op.plan_restore(point, "coruscant", mode=Mode.DISKS, name=f"disk-{image_format}", format=image_format)
        job = op.finish(op.start_restore(plan))

        assert job.failure is None, job.failure
        assert [vm.uuid for vm in take_snapshot(lane).vms] == [vm.uuid for vm in known]
        (disk,) = plan.request.disks
        path = volumes.path_of(lane, disk.pool, disk.volume)
        assert image.info(path).format == image_format
        assert Path(path).stat().st_blocks * 512 < 2 * point.size_bytes + (4 << 20)
        holds_the_point(op, point, Path(path), image_format)
        volumes.delete(lane, disk.pool, disk.volume)


def test_a_vm_that_was_restored_is_backed_up_restored_and_held_against_its_original(op: Operator):
    vm = op.vm("web")
    lane = op.lanes["alderaan"]
    before = ask_journal(lane, vm.uuid)
    point = op.back_up("web")
    after = ask_journal(lane, vm.uuid)
    first = op.restore(point, "coruscant", name="first", verify=True)

    elsewhere = op.lanes["coruscant"]
    assert prove((lane, vm.uuid), (elsewhere, first.uuid), before, after).compared_bytes > 0

    # Its guest writes on from where the restored one was.
    before = ask_journal(elsewhere, first.uuid)
    made = op.back_up("first")
    after = ask_journal(elsewhere, first.uuid)
    second = op.restore(made, "coruscant", name="second")

    assert (made.manifest.vm.uuid, made.manifest.consistency) == (first.uuid, Consistency.FILESYSTEM)
    assert made.manifest.disks[0].read_reason == f"what was written since web@{point.id[:8]}"
    assert prove((elsewhere, first.uuid), (elsewhere, second.uuid), before, after).compared_bytes > 0
    assert first.uuid != second.uuid


def test_a_test_reaches_nobody_and_is_taken_away_when_its_time_is_over(op: Operator):
    point = op.points("web")[0]
    lane = op.lanes["coruscant"]
    untouched = volumes.names(lane, "default")
    plan = op.plan_restore(point, "coruscant", mode=Mode.TEST, keep_for_s=1, start=False)

    job = op.finish(op.start_restore(plan))

    assert job.failure is None, job.failure
    assert [mapping.to for mapping in plan.request.networks] == ["none"]
    command = newhope(op.lab.settings_file, "restores")
    listed = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)["restores"]
    assert next(each["state"] for each in listed if each["id"] == plan.request.id) == "kept"
    done = subprocess.run([*command, "due"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert power.name_of(lane, plan.request.new_uuid) is None
    assert volumes.names(lane, "default") == untouched
    assert RestoreJournal(op.settings.state).find(plan.request.id).phase is Phase.UNDONE


def test_another_machine_finds_a_restore_on_the_host_and_undoes_it(op: Operator, tmp_path: Path):
    point = op.points("web")[0]
    lane = op.lanes["coruscant"]
    untouched = volumes.names(lane, "default")
    plan = op.plan_restore(point, "coruscant", name="left", start=False, keep_for_s=3600)
    op.finish(op.start_restore(plan))
    elsewhere = msgspec.structs.replace(op.settings, state=tmp_path)

    (found,) = adopt(elsewhere, "coruscant", RestoreJournal(tmp_path))

    assert found.id == plan.request.id
    with Journal(tmp_path) as journal:
        number = journal.insert(
            kind="settle", subject="left", host="coruscant", spec=b"{}", lock=None, again="", untouched=""
        )
        wanted = Settlement(found.id, AtEnd.UNDO)
        run(journal, number, lambda _, context: restore.settle(elsewhere, wanted, context))
        assert journal.job(number).failure is None
    assert power.name_of(lane, plan.request.new_uuid) is None
    assert volumes.names(lane, "default") == untouched


# The last of all: it takes the lab's own VM away.
def test_a_replaced_original_is_aside_until_the_commit_and_its_successor_goes_on_with_its_chain(op: Operator):
    point = op.back_up("web")
    vm = op.vm("web")
    lane = op.lanes["alderaan"]
    before = ask_journal(lane, vm.uuid)
    plan = op.plan_restore(point, "alderaan", mode=Mode.REPLACE, reason="its disk lies", ticket="INC-7")

    job = op.finish(op.start_restore(plan))

    assert job.failure is None, job.failure
    aside = plan.request.aside
    assert aside is not None
    assert plan.request.new_uuid == vm.uuid
    assert power.vm_state(lane, aside.kept_uuid) is VmState.OFF
    assert power.name_of(lane, vm.uuid) == "web"
    assert ask_journal(lane, vm.uuid).acked <= before.acked + 5
    again = op.back_up("web")
    assert again.manifest.disks[0].read_reason == f"what was written since web@{point.id[:8]}"

    originals = [disk.source for each in take_snapshot(lane).vms if each.uuid == aside.kept_uuid for disk in each.disks]
    settle(op, plan.request.id, AtEnd.COMMIT, delete_original=True)

    assert power.name_of(lane, aside.kept_uuid) is None
    assert not any(Path(source).exists() for source in originals if source)
    assert power.vm_state(lane, vm.uuid) is VmState.RUNNING
    report = report_of(op, plan.request.id)
    assert report.downtime_s is not None
    assert (report.ticket, report.level.name if report.level else "") == ("INC-7", "silver")


def report_of(op: Operator, identity: str) -> RestoreReport:
    with open_repository(op.settings.repositories[0]) as repository:
        name = next(name for name in repository.records("restores") if name.endswith(f"{identity}.json"))
        page = repository.record("restores", name.replace(".json", ".md")).decode()
        assert identity in page
        return msgspec.json.decode(repository.record("restores", name), type=RestoreReport)
