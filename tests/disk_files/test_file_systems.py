"""Real file systems of every kind, held against what they were made of, byte by byte."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.disk_files import DiskFiles, FileSystemUnreadable, NoSuchFile, open_disks
from engine.file_entry import FileKind
from tests.disk_files import images
from tests.disk_files.images import BIG, MIB, disk

Make = Callable[[Path, Path], Path]

LIKE_UNIX: dict[str, Make] = {
    "ext2": lambda image, tree: images.ext(image, tree, "ext2"),
    "ext2 with blocks of 1 KiB": lambda image, tree: images.ext(image, tree, "ext2", "-b", "1024"),
    "ext3": lambda image, tree: images.ext(image, tree, "ext3", size="64M"),
    "ext4": images.ext,
    "ext4 without checksums": lambda image, tree: images.ext(image, tree, "ext4", "-O", "^metadata_csum,^64bit"),
    "xfs": images.xfs,
    "btrfs": images.btrfs,
}


def whole(files: DiskFiles, volume: str, path: tuple[bytes, ...], size_bytes: int) -> bytes:
    content = bytearray()
    while len(content) < size_bytes:
        piece = files.read(volume, path, len(content), 3 * MIB)
        content += bytes(piece)
    return bytes(content)


def differences(files: DiskFiles, volume: str, tree: Path, path: tuple[bytes, ...] = ()) -> list[str]:
    """What a volume has otherwise than the folder that it was made of."""
    here = Path(os.fsdecode(os.path.join(os.fsencode(tree), *path)))
    entries = {entry.name: entry for entry in files.entries(volume, path)[0] if entry.name != b"lost+found"}
    found: list[str] = []
    names = {os.fsencode(name) for name in os.listdir(here)}
    if volume == "xfs":
        names = {name for name in names if b" " not in name}
    found += [f"{path}: {name}" for name in names ^ set(entries)]
    for name in names & set(entries):
        entry, local = entries[name], here / os.fsdecode(name)
        if local.is_symlink():
            same = entry.kind is FileKind.SYMLINK and entry.target == os.readlink(os.fsencode(local))
        elif local.is_dir():
            same = entry.kind is FileKind.FOLDER
            found += differences(files, volume, tree, (*path, name))
        else:
            same = entry.size_bytes == local.stat().st_size and entry.mode == local.stat().st_mode & 0o7777
            # Some hundred small ones are alike; the list of their names is what is hard.
            if same and (not path or path[-1] != b"many" or name.endswith(b"7")):
                same = whole(files, volume, (*path, name), entry.size_bytes) == local.read_bytes()
        if not same:
            found.append(f"{path}: {name}: {entry}")
    return found


@pytest.mark.parametrize("kind", LIKE_UNIX)
def test_every_name_mode_link_and_byte_is_as_it_was(kind: str, tree: Path, tmp_path: Path) -> None:
    image = LIKE_UNIX[kind](tmp_path / "disk", tree)
    content = kind.split()[0]

    with open_disks([disk(content, image)]) as files:
        [volume] = files.volumes()
        told = differences(files, content, tree)

    assert (volume.content, volume.label, volume.readable, volume.root) == (content, "system", True, True)
    assert told == []


def test_fat_and_ntfs_have_their_long_names_and_bytes(tree: Path, tmp_path: Path) -> None:
    disks = [disk("vda", images.fat(tmp_path / "fat", tree)), disk("vdb", images.ntfs(tmp_path / "ntfs", tree))]

    with open_disks(disks) as files:
        fat, ntfs = files.volumes()
        on_fat = {entry.name: entry for entry in files.entries("vda", ())[0]}
        on_ntfs = {entry.name: entry for entry in files.entries("vdb", ())[0]}
        contents = [whole(files, volume, (b"A long name.dat",), len(BIG)) for volume in ("vda", "vdb")]
        many = files.entries("vda", (b"MANY",))[0]

    assert [(each.content, each.label.lower(), each.readable) for each in (fat, ntfs)] == [
        ("fat", "system", True),
        ("ntfs", "system", True),
    ]
    assert set(on_fat) == {b"A long name.dat", b"deep", b"many", b"hosts"}
    assert set(on_ntfs) == {b"A long name.dat", b"hosts"}
    assert contents == [BIG, BIG]
    assert len(many) == 700


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_partitions_are_named_after_disk_and_number(label: str, ext4_image: Path, tree: Path, tmp_path: Path) -> None:
    small = images.fat(tmp_path / "fat", tree)
    image = images.partitioned(tmp_path / "disk", label, small, ext4_image)

    with open_disks([disk("vda", image)]) as files:
        volumes = files.volumes()
        entry = files.find("vda2", (b"etc", b"hosts"))

    assert [(each.name, each.content, each.root) for each in volumes] == [
        ("vda1", "fat", False),
        ("vda2", "ext4", True),
    ]
    assert (entry.size_bytes, entry.mtime_ns) == (20, images.MTIME * 10**9)


def test_symlinks_are_followed_inside_the_volume_and_circles_end(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)]) as files:
        through_link = files.find("vda", (b"bin", b"big"))
        itself = files.find("vda", (b"bin",))
        over_the_top = files.find("vda", (b"etc", b"out"), follow=True)
        inside = {entry.name for entry in files.entries("vda", (b"etc", b"absolute"))[0]}
        with pytest.raises(FileSystemUnreadable, match="circle"):
            files.find("vda", (b"etc", b"circle"), follow=True)
        with pytest.raises(NoSuchFile):
            files.find("vda", (b"etc", b"nothing"))

    assert through_link.size_bytes == len(BIG)
    assert itself.kind is FileKind.SYMLINK
    assert over_the_top.size_bytes == 20
    assert inside == {b"big"}


def test_little_of_a_disk_is_read_to_find_a_file(ext4_image: Path) -> None:
    read: list[int] = []
    of_file = disk("vda", ext4_image)

    def counted(offset: int, length: int) -> bytes:
        read.append(length)
        return of_file.read(offset, length)

    with open_disks([disk("vda", ext4_image, counted)]) as files:
        files.read("vda", (b"etc", b"hosts"), 0, 100)

    assert sum(read) < 2 * MIB


def test_encrypted_and_unknown_volumes_say_so(tmp_path: Path) -> None:
    contents = {
        "vda": b"LUKS\xba\xbe".ljust(MIB, b"x"),
        "vdb": b"\xeb\x58\x90-FVE-FS-".ljust(MIB, b"x"),
        "vdc": bytes(MIB),
        "vdd": b"nonsense" * (MIB // 8),
        "vde": bytes(4086) + b"SWAPSPACE2" + bytes(MIB),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    with open_disks([disk(name, tmp_path / name) for name in contents]) as files:
        told = {each.name: each for each in files.volumes()}
        with pytest.raises(FileSystemUnreadable, match="LUKS"):
            files.entries("vda", ())

    assert [told[name].content for name in contents] == ["luks", "bitlocker", "empty", "unknown", "swap"]
    assert not any(each.readable for each in told.values())
    assert "only the running guest" in told["vdb"].note


@pytest.mark.skipif(os.geteuid() != 0, reason="LVM's tools take block devices only, and loop devices need root")
def test_a_logical_volume_over_two_disks_is_put_together(ext4_image: Path, tmp_path: Path) -> None:
    halves = [tmp_path / "one", tmp_path / "two"]
    extent, start = 4 * MIB, MIB
    count = -(-ext4_image.stat().st_size // extent)
    each = -(-count // 2)
    for half in halves:
        half.touch()
        os.truncate(half, start + (each + 1) * extent)
    _make_group(halves, each * 2)
    content = ext4_image.read_bytes()
    for number, half in enumerate(halves):
        with half.open("r+b") as file:
            file.seek(start)
            # The tool fills each disk before it takes the next.
            file.write(content[number * (each + 1) * extent :][: (each + 1) * extent])

    with open_disks([disk("vdb", halves[1]), disk("vda", halves[0])]) as files:
        both = files.volumes()
        big = whole(files, "vg0/root", (b"usr", b"bin", b"big"), len(BIG))
    with open_disks([disk("vda", halves[0])]) as files:
        one = files.volumes()

    assert [(volume.name, volume.content, volume.root) for volume in both] == [
        ("vdb", "lvm", False),
        ("vda", "lvm", False),
        ("vg0/root", "ext4", True),
    ]
    assert big == BIG
    assert not one[-1].readable
    assert "not in this recovery point: 1" in one[-1].note


def _make_group(halves: list[Path], extents: int) -> None:
    loops = [images.run("losetup", "-f", "--show", half).strip() for half in halves]
    try:
        filters = ", ".join(f'"a|^{loop}$|"' for loop in loops)
        config = (
            f'devices {{ use_devicesfile=0 scan=["/dev"] filter=[{filters}, "r|.*|"] }} '
            "activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 } "
            f'global {{ locking_dir="{halves[0].parent}" activation=0 }}'
        )
        images.run("pvcreate", "--config", config, "-q", *loops)
        images.run("vgcreate", "--config", config, "-q", "vg0", *loops)
        images.run(
            "lvcreate", "--config", config, "-q", "-an", "-Zn", "-Wn", "-l", extents, "-n", "root", "vg0", *loops
        )
    finally:
        for loop in loops:
            images.run("losetup", "-d", loop)


def test_room_that_was_reserved_and_never_written_is_zero(tree: Path, tmp_path: Path) -> None:
    """As fallocate leaves it: blocks that belong to a file and still have what an earlier one wrote."""
    image = images.ext(tmp_path / "disk", tree, "ext4", "-b", "4096")
    with image.open("r+b") as file:
        content = bytearray(file.read())
        at = _extent_of(content, BIG[:4096])
        first, length, high, low = struct.unpack_from("<IHHI", content, at)
        struct.pack_into("<IHHI", content, at, first, length + 0x8000, high, low)
        file.seek(0)
        file.write(content)

    with open_disks([disk("vda", image)]) as files:
        zeroes = files.read("vda", (b"usr", b"bin", b"big"), 0, 4096)
    assert isinstance(zeroes, int)
    assert zeroes >= 4096


def _extent_of(content: bytearray, data: bytes) -> int:
    """Where the inode of the file that begins with this data has its first extent."""
    block = content.index(data) // 4096
    at = -1
    while True:
        at = content.index(b"\x0a\xf3", at + 1)
        entries, _, depth = struct.unpack_from("<HHH", content, at + 2)
        if entries and not depth and struct.unpack_from("<I", content, at + 20)[0] == block:
            return at + 12


def test_a_file_on_fat_whose_clusters_go_back_is_read_in_their_order(tree: Path, tmp_path: Path) -> None:
    image = images.fat(tmp_path / "disk", tree)
    content = bytearray(image.read_bytes())
    cluster_bytes = struct.unpack_from("<H", content, 11)[0] * content[13]
    table = struct.unpack_from("<H", content, 11)[0] * struct.unpack_from("<H", content, 14)[0]
    first = struct.unpack_from("<H", content, content.index(b"ALONGN~1DAT") + 26)[0]
    data = content.index(BIG[:4096])
    one, two = (slice(data + number * cluster_bytes, data + (number + 1) * cluster_bytes) for number in (1, 2))
    content[one], content[two] = content[two], content[one]
    # Its second and third clusters changed places.
    for number, follower in ((0, 2), (2, 1), (1, 3)):
        struct.pack_into("<H", content, table + 2 * (first + number), first + follower)
    image.write_bytes(content)

    with open_disks([disk("vda", image)]) as files:
        assert whole(files, "vda", (b"A long name.dat",), len(BIG)) == BIG
