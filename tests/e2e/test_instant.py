"""Instant restores: guests that run on a recovery point before it is copied, and what becomes of them when it dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine.cli.launching import launch_restore, launch_resume, launch_settlement
from engine.errors import NewhopeError
from engine.fleet import open_repository
from engine.hosts import HostLanes, agent, disk_move, image, power, take_snapshot, volumes
from engine.hosts.model import VmState
from engine.jobs import Journal, Knobs
from engine.lab import Lab
from engine.lab.journal import ask_journal, payload_is_intact, prove
from engine.repository import Point
from engine.repository.pack import pack_key
from engine.restore import AtEnd, Entry, Phase, RestoreJournal, RestorePlan, Settlement
from engine.restore.point_server import look
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.e2e.killing import restore_until_killed
from tests.hosts.live import lab_of_its_own
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan",), guests=("web",)) as lab:
        yield lab


@pytest.fixture
def op(small: Lab) -> Iterator[Operator]:
    with HostLanes(small.settings) as lanes, Journal(small.settings.state) as journal:
        at_work = Operator(small, lanes, journal)
        yield at_work
        at_work.remove_restored()


def restores(op: Operator) -> RestoreJournal:
    return RestoreJournal(op.settings.state)


def a_point(op: Operator) -> Point:
    known = op.points("web")
    return known[0] if known else op.back_up("web")


def what_is_there(op: Operator) -> dict[str, object]:
    lane = op.lanes["alderaan"]
    assert lane.host.scratch is not None
    return {
        "vms": sorted((vm.name, vm.uuid) for vm in take_snapshot(lane).vms),
        "volumes": volumes.names(lane, "default"),
        "sockets": sorted(path.name for path in lane.host.scratch.iterdir()),
        "of servers": sorted(path.name for path in (op.settings.state / "restores").glob("*.server*")),
    }


def left_in_the_middle(op: Operator, plan: RestorePlan) -> Entry:
    """The restore, whose job was killed when its VM ran and its disk was about to be moved."""
    restore_until_killed(op, plan.request, "move:vda+1")
    return restores(op).find(plan.request.id)


def kill_server(op: Operator, entry: Entry) -> int:
    pid = look(restores(op), entry.id).pid
    os.kill(pid, signal.SIGKILL)
    return pid


def typed(op: Operator, *words: str) -> str:
    # What opens the repository opens a copy of it too.
    passphrase = {"NEWHOPE_PASSPHRASE_FILE": str(op.lab.layout.passphrase_file)}
    command = newhope(op.lab.settings_file, *words)
    done = subprocess.run(command, env=os.environ | passphrase, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(op: Operator, entry: Entry) -> dict[str, Any]:
    return json.loads(typed(op, "--json", "restores", "show", entry.id))["restore"]


def is_in_its_place(op: Operator, entry: Entry) -> None:
    (disk,) = restores(op).find(entry.id).disks
    assert disk_move.image_of(op.lanes["alderaan"], entry.request.new_uuid, "vda") == disk.path
    assert image.info(disk.path, disk.format).backing is None
    assert not disk.overlay
    assert not look(restores(op), entry.id).runs


def test_a_guest_runs_on_the_point_though_its_server_dies_and_ends_on_a_disk_of_its_own_with_its_bitmap(
    op: Operator,
):
    lane, vm = op.lanes["alderaan"], op.vm("web")
    before = ask_journal(lane, vm.uuid)
    point = op.back_up("web")
    after = ask_journal(lane, vm.uuid)
    untouched = what_is_there(op)

    plan = op.plan_restore(point, "alderaan", name="at-once", instant=True)
    job = launch_restore(op.settings, op.journal, plan, Knobs(bandwidth=128 << 10))
    wait_for(lambda: (seen := restores(op).get(plan.request.id)) is not None and seen.begun("move:vda"))
    wait_for(lambda: disk_move.look(lane, plan.request.new_uuid, "vda") is not None)
    entry = restores(op).find(plan.request.id)
    killed = kill_server(op, entry)
    wait_for(lambda: look(restores(op), entry.id).pid not in (0, killed))
    op.journal.turn_knobs(job.id, lambda knobs: structs.replace(knobs, bandwidth=None))
    job = op.finish(job)

    assert job.failure is None, job.failure
    restored = op.vm("at-once")
    assert prove((lane, vm.uuid), (lane, restored.uuid), before, after).compared_bytes > 0
    is_in_its_place(op, entry)
    assert set(what_is_there(op)["volumes"]) - set(untouched["volumes"]) == {"at-once-vda.qcow2", *boot(entry)}
    assert what_is_there(op)["sockets"] == untouched["sockets"]
    again = op.back_up("at-once")
    assert again.manifest.disks[0].read_reason == f"what was written since web@{point.id[:8]}"


def boot(entry: Entry) -> set[str]:
    return {made.name for made in entry.made if made.step == "boot-files"}


def test_without_server_and_job_a_guest_is_paused_and_goes_on_unharmed_when_its_repository_is_back(op: Operator):
    lane, point = op.lanes["alderaan"], a_point(op)
    plan = op.plan_restore(point, "alderaan", name="hangs", instant=True, format="raw")
    entry = left_in_the_middle(op, plan)
    acked = ask_journal(lane, plan.request.new_uuid).acked

    kill_server(op, entry)
    wait_for(lambda: not shown(op, entry)["hanging"]["server"]["runs"])
    with pytest.raises(NewhopeError):
        agent.run(lane, plan.request.new_uuid, ["/usr/bin/journal", "payload"], timeout_s=20)
    seen = shown(op, entry)
    assert (seen["state"], seen["hanging"]["guest"], seen["hanging"]["disks"]) == ("interrupted", "stopped", ["vda"])

    packs = Path(str(op.settings.repositories[0].location)) / "packs"
    packs.rename(packs.with_name("lost"))
    try:
        failed = op.finish(launch_resume(op.settings, op.journal, entry))
    finally:
        packs.with_name("lost").rename(packs)
    assert failed.failure is not None
    assert "cannot be read" in failed.failure.what
    assert f"newhope restores resume {entry.id}" in failed.failure.next_step
    assert restores(op).find(entry.id).phase is Phase.UNDER_WAY

    job = op.finish(launch_resume(op.settings, op.journal, entry))

    assert job.failure is None, job.failure
    assert restores(op).find(entry.id).phase is Phase.COMMITTED
    is_in_its_place(op, entry)
    assert payload_is_intact(lane, plan.request.new_uuid)
    wait_for(lambda: ask_journal(lane, plan.request.new_uuid).acked > acked + 1)


def test_one_that_was_shut_down_meanwhile_gets_its_disk_and_stays_off(op: Operator):
    lane, point = op.lanes["alderaan"], a_point(op)
    plan = op.plan_restore(point, "alderaan", name="sleeps", instant=True)
    entry = left_in_the_middle(op, plan)
    power.shut_down(lane, plan.request.new_uuid, timeout_s=60)

    job = op.finish(launch_resume(op.settings, op.journal, entry))

    assert job.failure is None, job.failure
    assert power.vm_state(lane, plan.request.new_uuid) is VmState.OFF
    is_in_its_place(op, entry)


def test_one_whose_qemu_died_is_started_again_and_what_a_damaged_block_held_up_is_moved_after_a_repair(
    op: Operator, tmp_path: Path
):
    lane, point = op.lanes["alderaan"], a_point(op)
    plan = op.plan_restore(point, "alderaan", name="crashes", instant=True)
    entry = left_in_the_middle(op, plan)
    found = subprocess.run(["pgrep", "-f", f"guest=crashes,.*{plan.request.new_uuid}"], capture_output=True, text=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    wait_for(lambda: power.vm_state(lane, plan.request.new_uuid) in (VmState.OFF, VmState.CRASHED))
    offsite = shutil.copytree(str(op.settings.repositories[0].location), tmp_path / "offsite")
    block = damage_the_payload(op, point)

    failure = op.finish(launch_resume(op.settings, op.journal, entry)).failure

    assert failure is not None
    assert "vda of crashes could not be moved" in failure.what
    assert f"Block {block} of vda cannot be read" in failure.what
    assert "newhope repo repair vault-store" in failure.next_step
    assert f"newhope restores resume {entry.id}" in failure.next_step
    assert power.vm_state(lane, plan.request.new_uuid) is VmState.RUNNING
    agent.wait_until_answering(lane, plan.request.new_uuid, timeout_s=240)
    # Who asks for the block is paused, and no program of the guest gets an error.
    with pytest.raises(NewhopeError):
        agent.run(lane, plan.request.new_uuid, ["/usr/bin/journal", "payload"], timeout_s=60)
    assert disk_move.stopped_by_error(lane, plan.request.new_uuid)

    typed(op, "repo", "repair", "--full", "--from", str(offsite), "--yes")
    job = op.finish(launch_resume(op.settings, op.journal, entry))

    assert job.failure is None, job.failure
    assert power.vm_state(lane, plan.request.new_uuid) is VmState.RUNNING
    assert payload_is_intact(lane, plan.request.new_uuid)
    is_in_its_place(op, entry)


def damage_the_payload(op: Operator, point: Point) -> str:
    """Flip a bit of a block that the guest does not read unless somebody asks for its payload; the block's name."""
    kept, record = op.settings.repositories[0], point.manifest.disks[0]
    with open_repository(kept) as repository, repository.reader() as reader:
        random_data = [
            name
            for number, name in reader.names(record)
            if len(zlib.compress(reader.read_range(record, number * reader.block_bytes, reader.block_bytes)))
            > reader.block_bytes
        ]
        name = random_data[len(random_data) // 2]
        pack, offset = reader.place(name)
    with (Path(str(kept.location)) / pack_key(pack)).open("r+b") as file:
        file.seek(offset + reader.block_bytes // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    return name.hex()


def test_undone_in_the_middle_it_leaves_nothing(op: Operator):
    point = a_point(op)
    untouched = what_is_there(op)
    entry = left_in_the_middle(op, op.plan_restore(point, "alderaan", name="gone", instant=True))
    kill_server(op, entry)

    job = op.finish(launch_settlement(op.settings, op.journal, entry, Settlement(entry.id, AtEnd.UNDO)))

    assert job.failure is None, job.failure
    assert what_is_there(op) == untouched
