"""One chain of points for ever, whatever happens to the VM: each is the disks as they were and says how it was read.

What ends the chain of a disk, how it is noticed, and where that is tested (rows of libvirt's and QEMU's own traps):

case                                    noticed by                          then        test
killed QEMU, bitmap never stored        libvirt, when the moment is fixed   full        random guest; test_incremental
killed QEMU, bitmap stored before       `in-use` in the image               full        qemu_was_killed
bitmap removed, image swapped           no bitmap of that name              full        removed_the_bitmap
image rolled back with its bitmap       nothing: it counts right            goes on     rolled_back
tool that knows no bitmaps, offline     autoclear bit: bitmap gone          full        backup/test_changed_blocks
edit behind QEMU's back                 the sample                          distrusted  test_incremental
disk grown                              its size                            goes on     random guest
disk smaller, or cut and as before      its size, its last block            full        backup/test_changed_blocks
new disk beside old ones                not in the parent                   full, one   random guest
raw disk, qcow2 of version 2            its header                          full, one   random guest; version_2
foreign checkpoint since                libvirt's list                      full        foreign
migration, definition put back          checkpoint unknown, bitmap there    goes on     migration, forgotten
snapshot on top, VM off                 the layer below has the bitmap too  full        snapshot
snapshot on top, VM runs; committed     libvirt joins the bitmaps           goes on     snapshot
internal snapshot                       QEMU refuses to go back             goes on     backup/test_changed_blocks
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.hosts import HostLane, checkpoints, power_off, start
from engine.hosts.model import Vm
from engine.lab import Lab
from engine.lab.journal import ask_journal, prove
from engine.repository import Point
from tests.e2e.conftest import Operator
from tests.e2e.whole_disks import (
    Hashes,
    attach_disk,
    back_up_standing_still,
    content_of,
    detach_disk,
    grow_disk,
    make_it_run,
    make_room_for_disks,
    reason,
    remove_checkpoints,
)
from tests.hosts.live import in_guest, kill_qemu, lab_of_its_own
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

MIB = 1 << 20
SEED = 20261128
DECK = {
    "write": 7,
    "write_zeroes": 4,
    "punch": 4,
    "delete_and_trim": 3,
    "new_file": 3,
    "reboot": 1,
    "grow": 3,
    "add_qcow2_disk": 1,
    "add_raw_disk": 1,
    "kill": 2,
    "switch_off": 2,
}
RESTORED = (9, 20, 31)
"""These points are made hot, of a guest that writes, and restored: its journal is the truth then."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Its disks are mistreated: not the one that all tests share."""
    with lab_of_its_own(hosts=("alderaan", "coruscant"), guests=("web",)) as made:
        yield made


@pytest.fixture
def web(operator: Operator) -> Iterator[Vm]:
    vm = operator.vm("web")
    yield vm
    make_it_run(operator, vm)
    remove_checkpoints(operator, vm)


def image_of(operator: Operator, vm: Vm) -> Path:
    return Path(operator.vm(vm.name).disks[0].source or "")


class RandomGuest:
    """What a guest and its owner may do to its disks between two backups."""

    def __init__(self, operator: Operator, vm: Vm, chance: random.Random) -> None:
        self._operator = operator
        self._vm = vm
        self._lane = operator.lanes[vm.host]
        self._chance = chance
        self._area()

    def _area(self) -> None:
        self._sh("head -c 16000000 /dev/urandom > /data/area; sync")

    def write(self) -> None:
        self._sh(f"dd if=/dev/urandom of=/data/area bs=64k seek={self._place()} count=7 conv=notrunc 2>&1; sync")
        self._sh(
            f"for disk in /dev/vd[b-z]; do [ ! -b $disk ] ||"
            f" dd if=/dev/urandom of=$disk bs=64k seek={self._place()} count=9 conv=notrunc,fsync 2>&1; done"
        )

    def write_zeroes(self) -> None:
        self._sh(f"dd if=/dev/zero of=/data/area bs=64k seek={self._place()} count=40 conv=notrunc 2>&1; sync")
        self._sh(
            f"for disk in /dev/vd[b-z]; do [ ! -b $disk ] ||"
            f" dd if=/dev/zero of=$disk bs=64k seek={self._place()} count=9 conv=notrunc,fsync 2>&1; done"
        )

    def punch(self) -> None:
        self._sh(f"fallocate -p -o {self._place() * 65536} -l 2000000 /data/area; sync; fstrim /data 2>&1")

    def delete_and_trim(self) -> None:
        self._sh("rm -f /data/new-*; sync; fstrim /data 2>&1; sync")

    def new_file(self) -> None:
        self._sh(f"head -c 2000000 /dev/urandom > /data/new-{self._chance.randrange(10**6)}; sync")

    def reboot(self) -> None:
        power_off(self._lane, self._vm.uuid)
        make_it_run(self._operator, self._vm)

    def grow(self) -> None:
        for disk in self._operator.vm(self._vm.name).disks:
            if disk.device == "disk":
                grow_disk(self._operator, self._vm, disk.target, self._chance.randrange(1, 8 * MIB // 512) * 512)
        self.write()

    def add_qcow2_disk(self) -> None:
        attach_disk(self._operator, self._vm, "vdb", "qcow2", 24 * MIB)
        self.write()

    def add_raw_disk(self) -> None:
        attach_disk(self._operator, self._vm, "vdc", "raw", 24 * MIB)
        self.write()

    def kill(self) -> None:
        self.write()
        kill_qemu(self._operator.lab, self._lane, self._vm)
        make_it_run(self._operator, self._vm)

    def switch_off(self) -> None:
        self.write()
        power_off(self._lane, self._vm.uuid)

    def _sh(self, script: str) -> None:
        in_guest(self._lane, self._vm, script)

    def _place(self) -> int:
        return self._chance.randrange(230)


def restored_with_its_journal(operator: Operator, vm: Vm) -> Point:
    """A hot point, restored elsewhere: the guest finds there what it had acknowledged at the moment."""
    make_it_run(operator, vm)
    lane, elsewhere = operator.lanes[vm.host], operator.lanes["coruscant"]
    before = ask_journal(lane, vm.uuid)
    point = operator.back_up(vm.name)
    after = ask_journal(lane, vm.uuid)
    restored = operator.restore(point, "coruscant")
    assert prove((lane, vm.uuid), (elsewhere, restored.uuid), before, after).compared_bytes > 0
    operator.remove_restored()
    return point


@pytest.mark.long
def test_every_point_of_a_long_chain_is_the_disks_as_they_were(operator: Operator, web: Vm) -> None:
    power_off(operator.lanes[web.host], web.uuid)
    make_room_for_disks(operator, web, 2)
    make_it_run(operator, web)
    chance = random.Random(SEED)
    guest = RandomGuest(operator, web, chance)
    deck = [name for name, times in DECK.items() for _ in range(times)]
    chance.shuffle(deck)
    made: list[tuple[str, Point, Hashes]] = [("first", *back_up_standing_still(operator, web))]

    for number, doing in enumerate(deck, start=1):
        make_it_run(operator, web)
        getattr(guest, doing)()
        if number in RESTORED:
            made.append((doing, restored_with_its_journal(operator, web), {}))
        else:
            made.append((doing, *back_up_standing_still(operator, web)))

    assert len(made) > 30
    wrong = [
        (number, doing, reason(point))
        for number, (doing, point, truth) in enumerate(made)
        if truth and content_of(operator, point) != truth
    ]
    assert wrong == [], (wrong, deck)
    for doing, point, _ in made[1:]:
        for record in point.manifest.disks:
            first = doing == {"vdb": "add_qcow2_disk"}.get(record.target)
            whole = doing == "kill" or record.format == "raw" or first
            assert record.read_reason.startswith("full: " if whole else "what was written since web@"), (doing, record)
    power_off(operator.lanes[web.host], web.uuid)
    for target in ("vdb", "vdc"):
        detach_disk(operator, web, target)
    make_it_run(operator, web)
    without = operator.back_up("web")
    assert [(disk.target, reason(without).split(" ")[0]) for disk in without.manifest.disks] == [("vda", "what")]


class TestTheChainGoesOn:
    def test_after_a_migration_to_another_host_and_back(self, operator: Operator, web: Vm) -> None:
        first, _ = back_up_standing_still(operator, web)
        migrate(operator, web, "coruscant")
        moved = operator.vm("web")
        in_guest(operator.lanes["coruscant"], moved, "head -c 3000000 /dev/urandom > /data/moved; sync")

        elsewhere, truth = back_up_standing_still(operator, moved)
        migrate(operator, moved, "alderaan")
        again, truth_again = back_up_standing_still(operator, web)

        assert reason(elsewhere) == f"what was written since web@{first.id[:8]}"
        assert reason(again) == f"what was written since web@{elsewhere.id[:8]}"
        assert (content_of(operator, elsewhere), content_of(operator, again)) == (truth, truth_again)

    def test_after_its_checkpoints_were_forgotten_by_the_host(self, operator: Operator, web: Vm) -> None:
        first, _ = back_up_standing_still(operator, web)
        in_guest(operator.lanes[web.host], web, "head -c 3000000 /dev/urandom > /data/put-back; sync")
        forget(operator.lanes[web.host], web)

        point, truth = back_up_standing_still(operator, web)

        assert reason(point) == f"what was written since web@{first.id[:8]}"
        assert content_of(operator, point) == truth

    def test_when_its_image_is_rolled_back_together_with_its_bitmap(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        first, _ = back_up_standing_still(operator, web)
        power_off(lane, web.uuid)
        image = image_of(operator, web)
        kept = image.with_suffix(".kept")
        subprocess.run(["cp", "--sparse=always", "--preserve=all", image, kept], check=True)
        make_it_run(operator, web)
        in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/lost; sync")
        power_off(lane, web.uuid)
        kept.replace(image)
        make_it_run(operator, web)

        point, truth = back_up_standing_still(operator, web)

        assert reason(point) == f"what was written since web@{first.id[:8]}"
        assert content_of(operator, point) == truth

    def test_under_a_snapshot_and_after_its_commit_but_not_while_the_vm_is_off_under_it(
        self, operator: Operator, web: Vm
    ) -> None:
        lane = operator.lanes[web.host]
        first, _ = back_up_standing_still(operator, web)
        in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/below; sync")
        below = image_of(operator, web)
        take_disk_snapshot(lane, web, below.with_suffix(".above"))
        in_guest(lane, web, "head -c 2000000 /dev/urandom > /data/above; sync")

        power_off(lane, web.uuid)
        off = back_up_standing_still(operator, web)
        make_it_run(operator, web)
        running = back_up_standing_still(operator, web)
        commit_disk_snapshot(lane, web)
        committed = back_up_standing_still(operator, web)
        below.with_suffix(".above").unlink()

        assert "a snapshot lies on top of the image" in reason(off[0])
        assert reason(running[0]) == f"what was written since web@{first.id[:8]}"
        assert reason(committed[0]) == f"what was written since web@{running[0].id[:8]}"
        for point, truth in (off, running, committed):
            assert content_of(operator, point) == truth


class TestTheChainEnds:
    """And the next point begins a new one: it is complete all the same, and says why it was read whole."""

    def test_at_a_checkpoint_of_another_program_which_is_left_alone(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        back_up_standing_still(operator, web)
        lane.run(
            lambda connection: connection.lookupByUUIDString(web.uuid).checkpointCreateXML(
                "<domaincheckpoint><name>virtnbdbackup.0</name></domaincheckpoint>"
            )
        )
        # libvirt dates checkpoints by the second, and of two of one second the other's is taken for the later one.
        made_s = int(time.time())
        wait_for(lambda: int(time.time()) > made_s)

        point, truth = back_up_standing_still(operator, web)
        after, _ = back_up_standing_still(operator, web)

        assert reason(point).startswith("full: another program has made the checkpoint virtnbdbackup.0 since web@")
        assert reason(after) == f"what was written since web@{point.id[:8]}"
        assert content_of(operator, point) == truth
        assert "virtnbdbackup.0" in [each.name for each in checkpoints.known_checkpoints(lane, web.uuid)]
        lane.run(
            lambda connection: (
                connection.lookupByUUIDString(web.uuid).checkpointLookupByName("virtnbdbackup.0").delete()
            )
        )

    def test_when_somebody_has_removed_the_bitmap_from_the_image(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        back_up_standing_still(operator, web)
        (name,) = checkpoints.own_checkpoints(lane, web.uuid)
        power_off(lane, web.uuid)
        subprocess.run(["qemu-img", "bitmap", "--remove", image_of(operator, web), name], check=True)

        off, truth = back_up_standing_still(operator, web)

        assert reason(off) == f"full: the dirty bitmap since {name} is lost: it is not in the image"
        assert content_of(operator, off) == truth

    def test_when_another_image_of_the_same_size_lies_in_its_place(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        back_up_standing_still(operator, web)
        (name,) = checkpoints.own_checkpoints(lane, web.uuid)
        power_off(lane, web.uuid)
        image = image_of(operator, web)
        other = image.with_suffix(".other")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, other], check=True)
        shutil.chown(other, image.owner(), image.group())
        other.replace(image)
        make_it_run(operator, web)

        running, truth = back_up_standing_still(operator, web)

        assert reason(running).startswith(f"full: the dirty bitmap since {name} is lost: ")
        assert content_of(operator, running) == truth

    def test_when_qemu_was_killed_while_it_held_the_stored_bitmap(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        back_up_standing_still(operator, web)
        (name,) = checkpoints.own_checkpoints(lane, web.uuid)
        power_off(lane, web.uuid)
        make_it_run(operator, web)
        kill_qemu(operator.lab, lane, web)

        off, truth_off = back_up_standing_still(operator, web)
        make_it_run(operator, web)
        running, truth = back_up_standing_still(operator, web)

        assert reason(off).endswith("QEMU was killed before it had written it down")
        assert reason(running).startswith(f"full: the dirty bitmap since {name} is lost: ")
        assert (content_of(operator, off), content_of(operator, running)) == (truth_off, truth)

    def test_for_an_image_of_version_2_until_it_is_amended_as_the_point_says(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        back_up_standing_still(operator, web)
        remove_checkpoints(operator, web)
        power_off(lane, web.uuid)
        image = image_of(operator, web)
        subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", image], check=True)
        make_it_run(operator, web)

        old, truth = back_up_standing_still(operator, web)
        power_off(lane, web.uuid)
        _, _, command = reason(old).partition("with the VM off, ")
        subprocess.run(command.removesuffix(" makes it one that does").split(), check=True)
        start(lane, web.uuid)
        operator.lab.wait_until_up(web.host, web.name)
        first, _ = back_up_standing_still(operator, web)
        second, _ = back_up_standing_still(operator, web)

        assert reason(old).startswith("full: its image is qcow2 of version 2")
        assert content_of(operator, old) == truth
        assert reason(second) == f"what was written since web@{first.id[:8]}"


def migrate(operator: Operator, vm: Vm, to_host: str) -> None:
    """Move a running VM to another host that reaches the same images; its checkpoints stay behind."""
    (uri,) = [host.uri for host in operator.settings.hosts if host.name == to_host]

    def work(connection) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(vm.uuid)
        other = libvirt.open(uri)
        try:
            flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNSAFE
            parameters = {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1"}
            domain.migrate3(other, parameters, flags | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
        finally:
            other.close()

    operator.lanes[vm.host].run(work, timeout_s=180.0)


def forget(lane: HostLane, vm: Vm) -> None:
    """What undefining a VM and defining it again does to its checkpoints."""

    def work(connection) -> None:
        for checkpoint in connection.lookupByUUIDString(vm.uuid).listAllCheckpoints():
            checkpoint.delete(2)  # VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY

    lane.run(work)


def take_disk_snapshot(lane: HostLane, vm: Vm, above: Path) -> None:
    element = (
        f"<domainsnapshot><disks><disk name='vda' snapshot='external'><source file='{above}'/></disk></disks>"
        "</domainsnapshot>"
    )
    disk_only, no_metadata = 16, 4
    lane.run(
        lambda connection: connection.lookupByUUIDString(vm.uuid).snapshotCreateXML(element, disk_only | no_metadata)
    )


def commit_disk_snapshot(lane: HostLane, vm: Vm) -> None:
    """Write what is in the upper layer into the lower one, and go on with that."""
    active, pivot = 4, 2

    def begin(connection) -> None:
        connection.lookupByUUIDString(vm.uuid).blockCommit("vda", None, None, 0, active)

    def ready(connection) -> bool:
        # Equal figures of its job do not tell: they are equal before the first block, too.
        mirror = ElementTree.fromstring(connection.lookupByUUIDString(vm.uuid).XMLDesc()).find("devices/disk/mirror")
        return mirror is not None and mirror.get("ready") == "yes"

    lane.run(begin)
    assert wait_for(lambda: lane.run(ready))
    lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).blockJobAbort("vda", pivot))
