"""When a dirty bitmap is believed, and why it is not: each disk for itself, the reason in words."""

from __future__ import annotations

from typing import Any

import pytest

from engine.backup.reading import DiskReading, checkpoint_left_behind, distrusted, is_doubtful, plan_reading
from engine.hosts.checkpoints import KnownCheckpoint
from engine.hosts.model import Disk, Vm
from engine.repository import Point
from tests.builders import GIB, ago, make_disk, make_disk_record, make_point, make_vm, make_vm_facts

OURS = "newhope-20261122T081300Z-a1b2c3-0123abcd"
NEWER = "newhope-20261122T091300Z-ffffff-0123abcd"


def known(name: str = OURS, *, age: str = "30m", disks: tuple[str, ...] = ("vda",)) -> KnownCheckpoint:
    return KnownCheckpoint(name, ago(age), disks)


def point(**changes: Any) -> Point:
    return make_point("web", **{"checkpoint": OURS, **changes})


def read(
    disks: tuple[Disk, ...] = (make_disk(),),
    points: tuple[Point, ...] = (),
    checkpoints: tuple[KnownCheckpoint, ...] = (known(),),
    vm: Vm | None = None,
) -> tuple[DiskReading, ...]:
    return plan_reading(vm or make_vm("web"), disks, points, checkpoints).disks


def test_a_disk_as_it_was_is_read_since_the_checkpoint_of_the_newest_point() -> None:
    parent = point()

    (vda,) = read(points=(parent,))

    assert vda == DiskReading(
        "vda", f"what was written since web@{parent.id[:8]}", OURS, parent.manifest.disks[0], parent.id
    )


def test_the_first_backup_reads_all() -> None:
    (vda,) = read(checkpoints=())

    assert (vda.since, vda.reason) == (None, "full: it has no earlier recovery point in this repository")


def test_a_newer_point_without_a_checkpoint_does_not_end_the_chain() -> None:
    older, newer = point(age="2h"), point(age="30m", checkpoint=None, method="cold")

    (vda,) = read(points=(newer, older), checkpoints=(known(age="2h"),))

    assert vda.parent == older.manifest.disks[0]
    assert vda.since == OURS


def test_the_order_of_the_points_does_not_matter() -> None:
    other = "newhope-20261122T091300Z-ffffff-0123abcd"
    older, newer = point(age="2h"), point(age="30m", checkpoint=other)

    (vda,) = read(points=(older, newer), checkpoints=(known(age="2h"), known(other)))

    assert vda.since == other


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (make_disk("vdb"), "full: it is new since web@"),
        (make_disk(capacity_bytes=9 * GIB), "full: its size was 10737418240 bytes at web@"),
        (make_disk(format="raw", bitmaps_possible=False), "full: an image of this kind (raw) keeps no dirty bitmap"),
        (make_disk(bitmaps_possible=False), "full: its image is qcow2 of version 2"),
        (make_disk(format="qed"), "full: its format was qcow2 at web@"),
    ],
    ids=["new", "shrunk", "raw", "qcow2 of version 2", "converted"],
)
def test_a_disk_that_is_not_as_it_was_is_read_whole_and_the_reason_is_kept(disk: Disk, reason: str) -> None:
    (reading,) = read((disk,), (point(),))

    assert reading.since is None
    assert reading.parent is None
    assert reading.reason.startswith(reason)


def test_a_disk_that_has_grown_is_read_since_its_checkpoint_and_the_new_part_too() -> None:
    parent = point()

    (vda,) = read((make_disk(capacity_bytes=11 * GIB),), (parent,))

    assert vda.since == OURS
    assert vda.reason == f"what was written since web@{parent.id[:8]}, and the 1 GiB that it has grown by"


def test_an_image_that_is_too_old_for_bitmaps_comes_with_the_command_that_changes_that() -> None:
    (vda,) = read((make_disk(bitmaps_possible=False, source="/images/my disk.qcow2"),), (point(),))

    assert "qemu-img amend -f qcow2 -o compat=1.1 '/images/my disk.qcow2'" in vda.reason


def test_no_point_is_leant_on_where_every_disk_is_read_whole() -> None:
    parent = point()

    assert plan_reading(make_vm("web"), [make_disk()], [parent], [known()]).parent == parent
    assert plan_reading(make_vm("web"), [make_disk("vdb")], [parent], [known()]).parent is None


def test_one_disk_that_must_be_read_whole_does_not_cost_the_others_their_bitmaps() -> None:
    vda, vdb = read((make_disk(), make_disk("vdb")), (point(),))

    assert (vda.since, vdb.since) == (OURS, None)


def test_a_disk_on_which_no_bitmap_counts_is_read_whole() -> None:
    (vda,) = read(points=(point(),), checkpoints=(known(disks=("vdb",)),))

    assert vda.reason.startswith("full: no dirty bitmap was begun on it at web@")


def test_a_checkpoint_of_another_program_since_then_makes_all_bitmaps_doubtful() -> None:
    (vda,) = read(points=(point(),), checkpoints=(known(), known("virtnbdbackup.0", age="10m")))

    assert vda.reason.startswith("full: another program has made the checkpoint virtnbdbackup.0 since web@")


def test_a_checkpoint_of_another_program_from_before_does_no_harm() -> None:
    (vda,) = read(points=(point(),), checkpoints=(known("virtnbdbackup.0", age="2h"), known()))

    assert vda.since == OURS


def test_a_vm_that_was_moved_is_read_whole_and_its_old_host_named() -> None:
    elsewhere = make_point(make_vm_facts("web", host="yavin"), checkpoint=OURS)

    (vda,) = read(points=(elsewhere,), checkpoints=())

    assert "was made on yavin, and its checkpoint did not come along" in vda.reason


def test_the_checkpoint_that_a_moved_vm_left_behind_is_that_of_its_newest_point() -> None:
    older, newest, off = point(age="3h"), point(age="2h", checkpoint=NEWER), point(age="1h", checkpoint=None)
    vm = make_vm("web", disks=(make_disk(), make_disk("vdb"), make_disk("vdc", format="raw", bitmaps_possible=False)))

    assert checkpoint_left_behind(vm, (off, older, newest), (known(),)) == KnownCheckpoint(NEWER, ago("2h"), ("vda",))


@pytest.mark.parametrize(
    ("points", "checkpoints"),
    [((), ()), ((point(checkpoint=None),), ()), ((point(),), (known(),)), ((point(checkpoint="daily"),), ())],
    ids=["no point", "none with a checkpoint", "known", "not ours"],
)
def test_nothing_was_left_behind(points: tuple[Point, ...], checkpoints: tuple[KnownCheckpoint, ...]) -> None:
    assert checkpoint_left_behind(make_vm("web"), points, checkpoints) is None


def test_checkpoints_that_somebody_removed_are_told() -> None:
    (vda,) = read(points=(point(),), checkpoints=())

    assert vda.reason == "full: alderaan does not know the checkpoint of an earlier recovery point any more"


def test_a_disk_that_can_keep_no_bitmap_says_so_rather_than_that_there_was_none() -> None:
    vda, vdb = read((make_disk(), make_disk("vdb", format="raw", bitmaps_possible=False)), (point(),), checkpoints=())

    assert vda.reason == "full: alderaan does not know the checkpoint of an earlier recovery point any more"
    assert vdb.reason == "full: an image of this kind (raw) keeps no dirty bitmap"


def test_points_that_never_had_a_checkpoint_are_told_apart() -> None:
    (vda,) = read(points=(point(checkpoint=None),), checkpoints=())

    assert vda.reason == "full: no earlier recovery point left a checkpoint"


def test_a_bitmap_that_missed_a_write_is_something_to_look_at() -> None:
    parent = point()
    (vda,) = read(points=(parent,))

    doubtful = distrusted(vda, "the block at 0 has changed")

    assert (doubtful.since, doubtful.parent, doubtful.contradicted) == (None, None, parent.id)
    assert doubtful.reason == "full, for the dirty bitmap was wrong: the block at 0 has changed"
    assert is_doubtful(make_disk_record(contradicted=doubtful.contradicted))
    assert not is_doubtful(make_disk_record(read_reason=vda.reason, taken_over_from=parent.id))
