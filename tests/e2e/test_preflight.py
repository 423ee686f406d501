"""What only real hosts show of a preflight: seen in `newhope restore --dry-run`, then refused or accepted for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import ExitCode
from engine.fleet import open_repository
from engine.hosts import HostLane, find_vm, power_off, start, take_snapshot
from engine.hosts.model import VmState
from engine.lab import Lab
from engine.repository import Point
from engine.restore import RestoreJournal
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.hosts.live import lab_of_its_own

pytestmark = [pytest.mark.lab, pytest.mark.slow]

OLD_HOST = """
<memoryBacking><hugepages/></memoryBacking>
<cpu mode='custom' match='exact' check='partial'><model fallback='allow'>Haswell-noTSX</model></cpu>
"""
OLD_DEVICES = """
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/nowhere/install.iso'/>
<target dev='sda' bus='sata'/><readonly/></disk>
<hostdev mode='subsystem' type='usb'><source><vendor id='0x0951'/><product id='0x1666'/></source></hostdev>
</devices>
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan", "coruscant"), guests=("web",)) as made:
        yield made


@pytest.fixture(scope="module")
def point(lab: Lab) -> Iterator[Point]:
    from engine.hosts import HostLanes
    from engine.jobs import Journal

    with HostLanes(lab.settings) as lanes, Journal(lab.settings.state) as journal:
        yield Operator(lab, lanes, journal).back_up("web")


def answer(lab: Lab, *words: str) -> tuple[int, str]:
    """The command as it is typed: its exit status, and all that it said, on one line."""
    done = subprocess.run(
        newhope(lab.settings_file, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def named(point: Point) -> str:
    return f"{point.manifest.vm.name}@{point.id}"


def restores(lab: Lab) -> int:
    return len(RestoreJournal(lab.settings.state).entries())


def of_a_newer_host(lab: Lab, point: Point) -> Point:
    """The same recovery point, had it been made on a host with a newer QEMU, a network dmz, and devices of its own."""
    manifest = point.manifest
    with open_repository(lab.settings.repositories[0]) as repository:
        with repository.reader() as reader:
            kept = next(file for file in manifest.files if file.role == "definition-inactive")
            text = reader.file(kept).decode()
        text = text.replace("pc-q35-7.2", "pc-q35-9.0").replace("</devices>", OLD_DEVICES)
        text = text.replace("<interface type='user'>", "<interface type='network'><source network='dmz'/>")
        text = text.replace("<os>", f"{OLD_HOST}<os>")
        with repository.writer("a newer host") as writer:
            inactive = writer.file("definition-inactive", "web", text.encode())
            return writer.commit(
                vm=replace(
                    manifest.vm,
                    machine="pc-q35-9.0",
                    nics=("network:dmz",),
                    cpu_mode="custom",
                    cpu_model="Haswell-noTSX",
                    host_devices=("usb 0951:1666",),
                ),
                moment=manifest.moment - timedelta(minutes=5),
                method="hot",
                consistency=manifest.consistency,
                consistency_note=manifest.consistency_note,
                disks=manifest.disks,
                files=(*(file for file in manifest.files if not file.role.startswith("definition")), inactive),
                writer=manifest.writer,
            )


def test_a_vm_of_a_newer_host_shows_each_misfit_and_comes_up_with_what_is_chosen_instead(
    lab: Lab, point: Point, operator: Operator
):
    newer = of_a_newer_host(lab, point)

    code, said = answer(lab, "restore", named(newer), "--dry-run")

    assert code == ExitCode.PREFLIGHT
    for words in (
        "does not offer pc-q35-9.0; the nearest that it has is pc-q35-7.2",
        "if you choose it all the same",
        "has no network dmz",
        "has the CPU Haswell-noTSX, which",
        "or else: the guest wakes on another CPU",
        "sda had /nowhere/install.iso, which is not there",
        "has no usb 0951:1666",
        "restored without huge pages",
    ):
        assert words in said, words
    assert answer(lab, "restore", named(newer), "--to", "coruscant", "--yes")[0] == ExitCode.PREFLIGHT
    assert restores(lab) == 0

    chosen = ("--machine", "pc-q35-7.2", "--network", "0=isolated", "--name", "older", "--no-start")
    code, said = answer(lab, "restore", named(newer), "--to", "coruscant", *chosen, "--yes")

    assert code == ExitCode.OK, said
    made = find_vm(take_snapshot(operator.lanes["coruscant"]), "older")
    assert (made.machine, made.cpu_mode) == ("pc-q35-7.2", "host-model")
    operator.remove("coruscant", "older")


@pytest.fixture
def held(lab: Lab) -> Iterator[Path]:
    """A file of somebody else's in coruscant's pool, where a VM `held` would have its disk."""
    there = lab.layout.host("coruscant").pool / "held-vda.qcow2"
    there.write_bytes(b"somebody else's")
    yield there
    there.unlink()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (("--to", "coruscant", "--pool", "nowhere"), ("has no active pool nowhere; active are: default",)),
        (("--to", "alderaan", "--name", "web"), ("alderaan has a VM named web",)),
        (
            ("--to", "coruscant", "--network", "0=default", "--mac", "keep"),
            ("the network default on coruscant is not active", "{mac} is also web's on alderaan", "--mac new"),
        ),
        (
            ("--to", "coruscant", "--uuid", "keep"),
            ("web on alderaan has it: nobody could tell the two apart",),
        ),
        (("--to", "coruscant", "--cpu", "FooLake"), ("cannot give it the CPU FooLake",)),
        (
            ("--to", "coruscant", "--name", "held"),
            ("coruscant already has volume held-vda.qcow2 in pool default", "--name held-2"),
        ),
    ],
    ids=["pool", "name", "network and MAC", "uuid", "cpu", "path"],
)
def test_what_fails_is_refused_before_anything_is_written(
    lab: Lab, point: Point, held: Path, choice: tuple[str, ...], words: tuple[str, ...]
):
    known = restores(lab)
    (mac,) = point.manifest.vm.macs

    code, said = answer(lab, "restore", named(point), *choice, "--yes")

    assert code == ExitCode.PREFLIGHT
    for each in words:
        assert each.format(mac=mac) in said
    assert restores(lab) == known
    assert held.read_bytes() == b"somebody else's"


def test_a_misspelt_acceptance_is_refused(lab: Lab, point: Point):
    code, said = answer(lab, "restore", named(point), "--to", "coruscant", "--accept", "orignal", "--yes")

    assert code == ExitCode.USAGE
    assert "orignal" in said


@contextmanager
def small_pool(lane: HostLane, folder: Path, size: str) -> Iterator[None]:
    """A pool `tight` on a file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("needs a file system of its own, which only root may mount")
    folder.mkdir()
    owner = folder.parent.stat()
    options = f"size={size},mode=755,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    pool = f"<pool type='dir'><name>tight</name><target><path>{folder}</path></target></pool>"
    try:
        lane.run(lambda connection: connection.storagePoolCreateXML(pool, 0))
        yield
        lane.run(lambda connection: connection.storagePoolLookupByName("tight").destroy())
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_a_pool_without_room_is_refused_and_one_without_reserve_is_accepted_by_name(
    lab: Lab, point: Point, operator: Operator
):
    lane = operator.lanes["coruscant"]
    folder = next(Path(pool.path or "") for pool in take_snapshot(lane).pools).parent / "tight"
    words = ("restore", named(point), "--to", "coruscant", "--pool", "tight", "--name", "narrow", "--no-start")
    files = sum(file.size_bytes for file in point.manifest.files if file.role in ("kernel", "initrd"))
    needed_kib = (point.size_bytes + files) // 1024

    with small_pool(lane, folder, f"{needed_kib // 2}k"):
        code, said = answer(lab, *words, "--yes")
        assert code == ExitCode.PREFLIGHT
        assert "or choose another: --pool default" in said

    with small_pool(lane, folder, f"{needed_kib * 106 // 100}k"):
        code, said = answer(lab, *words, "--yes")
        assert code == ExitCode.PREFLIGHT
        assert "or accept it: --accept pool" in said
        assert not list(folder.iterdir())

        code, said = answer(lab, *words, "--accept", "pool", "--yes")
        assert code == ExitCode.OK, said
        assert find_vm(take_snapshot(lane), "narrow").name == "narrow"
        with open_repository(lab.settings.repositories[0]) as repository:
            name = next(each for each in repository.records("restores") if each.endswith(".md"))
            reports = [repository.record("restores", each).decode() for each in repository.records("restores")]
        assert name
        assert any("| pool | WARN, accepted by name |" in report for report in reports)
        operator.remove("coruscant", "narrow")
        for path in folder.iterdir():
            path.unlink()


def test_what_became_dangerous_since_the_plan_stops_the_run(lab: Lab, point: Point, operator: Operator):
    lane = operator.lanes["coruscant"]
    folder = next(Path(pool.path or "") for pool in take_snapshot(lane).pools).parent / "tight"

    with small_pool(lane, folder, "200m"):
        plan = operator.plan_restore(point, "coruscant", pool="tight", name="late", start=False)
        filler = folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(folder).free - (8 << 20)))
        job = operator.finish(operator.start_restore(plan))
        filler.unlink()

        assert job.failure is not None
        assert job.failure.exit_code == ExitCode.PREFLIGHT
        assert "late" not in {vm.name for vm in take_snapshot(lane).vms}
        assert not list(folder.iterdir())


def test_a_missing_pack_is_seen_before_anything_is_written(lab: Lab, point: Point):
    packs = sorted((lab.folder / "repository" / "packs").glob("*/*"), key=lambda path: path.stat().st_size)
    away = lab.folder / "away"
    packs[-1].rename(away)
    try:
        code, said = answer(lab, "restore", named(point), "--to", "coruscant", "--dry-run")
    finally:
        away.rename(packs[-1])

    assert code == ExitCode.PREFLIGHT
    assert "are in no pack that is whole" in said


def test_an_original_that_is_off_is_no_warning_and_one_on_a_dead_host_may_come_back(
    lab: Lab, point: Point, operator: Operator
):
    lane = operator.lanes["alderaan"]
    uuid = point.manifest.vm.uuid

    assert "web is running on alderaan: two VMs" in answer(lab, "restore", named(point), "--dry-run")[1]
    power_off(lane, uuid)
    assert "web is off on alderaan" in answer(lab, "restore", named(point), "--dry-run")[1]
    start(lane, uuid)
    operator.fleet()
    answer(lab, "vms")
    lab.break_host("alderaan")
    try:
        code, said = answer(lab, "restore", named(point), "--dry-run")
    finally:
        lab.heal_host("alderaan")

    assert code == ExitCode.OK
    assert "web was last seen on alderaan, which does not answer; it may run, or come back" in said
    assert "alderaan, if you choose it all the same: x FAIL host" in said
    assert operator.vm("web").state is VmState.RUNNING
