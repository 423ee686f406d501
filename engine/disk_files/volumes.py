"""What is on the disks: partitions (GPT, MBR), LVM volumes over any number of them, and what each holds.

A disk or partition is recognised by the marks that file systems leave at fixed places; only what is known by its mark
is given to a parser. Whatever cannot be read is listed too, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, cast

from msgspec import Struct

from engine.disk_files.btrfs import open_btrfs
from engine.disk_files.ext4 import open_ext4
from engine.disk_files.fat import open_fat
from engine.disk_files.ntfs import open_ntfs
from engine.disk_files.protocol import GROUPS, Volume
from engine.disk_files.tree import FileSystem, Unreadable, dissect
from engine.disk_files.xfs import open_xfs

OPENERS = {"ext": open_ext4, "xfs": open_xfs, "btrfs": open_btrfs, "ntfs": open_ntfs, "fat": open_fat}
REASONS = {
    "luks": "encrypted by its guest (LUKS): only the running guest can read it",
    "bitlocker": "encrypted by its guest (BitLocker): only the running guest can read it",
    "lvm": "",
    "swap": "",
    "empty": "",
    "raid": "a part of a Linux software RAID, which is not supported",
    "exfat": "exFAT is not supported",
    "iso9660": "a CD image; restore the disk and mount it",
    "unknown": "no file system that is known here",
}
SKIPPED = "damaged, or made to stop whoever reads it: the process that looked into it did not come back"
_HEAD_BYTES = 0x11000
_MARKS = (
    ("luks", 0, b"LUKS\xba\xbe"),
    ("bitlocker", 3, b"-FVE-FS-"),
    ("xfs", 0, b"XFSB"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("lvm", 0, b"LABELONE"),
    ("lvm", 512, b"LABELONE"),
    ("lvm", 1024, b"LABELONE"),
    ("lvm", 1536, b"LABELONE"),
    ("raid", 4096, b"\xfc\x4e\x2b\xa9"),
    ("raid", 0, b"\xfc\x4e\x2b\xa9"),
    ("ext", 0x438, b"\x53\xef"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("iso9660", 0x8001, b"CD001"),
    ("fat", 54, b"FAT"),
    ("fat", 82, b"FAT"),
)
_NAME = re.compile(r"[A-Za-z0-9+_.-]{1,128}")


class Opened(Struct, frozen=True):
    """A volume, and its file system if that can be read."""

    volume: Volume
    file_system: FileSystem | None = None


class _Place(Struct, frozen=True):
    """Somewhere a file system may be."""

    name: str
    stream: Any
    size_bytes: int


def find_volumes(
    disks: list[tuple[str, BinaryIO, int]],
    skip: Collection[str] = (),
    opening: Callable[[str], None] = lambda name: None,
) -> list[Opened]:
    """All volumes of these disks (name, content, size), in the order of the disks.

    `opening` is told what is looked into next; what `skip` names is not.
    """
    found: list[Opened] = []
    physical: list[_Place] = []

    def look(place: _Place) -> Opened:
        if place.name in skip:
            return Opened(Volume(place.name, "unknown", place.size_bytes, note=SKIPPED))
        opening(place.name)
        mark = mark_of(place.stream)
        if mark == "lvm":
            physical.append(place)
        return _open(place, mark)

    for name, stream, size in disks:
        opening(name)
        places = [_Place(name, stream, size)] if name in skip else [*_places_on(name, stream, size)]
        found += map(look, places)
    opening(GROUPS)
    if physical and GROUPS in skip:
        return [*found, Opened(Volume(GROUPS, GROUPS, 0, note=SKIPPED))]
    for place in _logical_volumes(physical):
        found.append(look(place) if isinstance(place, _Place) else place)
    return found


def mark_of(stream: BinaryIO) -> str:
    """What a volume says that it is."""
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    for content, at, mark in _MARKS:
        if head[at : at + len(mark)] == mark and (content != "fat" or head[510:512] == b"\x55\xaa"):
            return content
    return "empty" if not any(head) else "unknown"


def _places_on(name: str, stream: BinaryIO, size_bytes: int) -> Iterator[_Place]:
    stream.seek(0)
    head = stream.read(8192)
    sector = next((at for at in (512, 4096) if head[at : at + 8] == b"EFI PART"), 0)
    if not sector and (mark_of(stream) != "unknown" or head[510:512] != b"\x55\xaa"):
        yield _Place(name, stream, size_bytes)
        return
    stream.seek(0)
    try:
        partitions = dissect("volume.disk").Disk(stream, sector_size=sector or 512).partitions
        places = [_Place(f"{name}{each.number}", each.open(), int(each.size)) for each in partitions]
    except Exception:
        places = []
    inside = [place for place in places if place.size_bytes > 0]
    yield from inside or [_Place(name, stream, size_bytes)]


def _open(place: _Place, mark: str) -> Opened:
    opener = OPENERS.get(mark)
    if opener is None:
        return Opened(Volume(place.name, mark, place.size_bytes, note=REASONS.get(mark, "")))
    try:
        opened = opener(place.stream)
        root = looks_like_root(opened)
    except Unreadable as reason:
        return Opened(Volume(place.name, mark, place.size_bytes, note=str(reason)))
    except MemoryError:
        raise
    except Exception as error:
        note = f"damaged: {type(error).__name__}: {error}"
        return Opened(Volume(place.name, mark, place.size_bytes, note=note[:300]))
    volume = Volume(
        place.name,
        opened.content,
        place.size_bytes,
        used_bytes=int(opened.used_bytes),
        label=opened.label,
        readable=True,
        root=root,
        note=opened.note,
    )
    return Opened(volume, opened)


def looks_like_root(opened: FileSystem) -> bool:
    """Whether a system starts from it: it has `etc` and programs, or Windows."""
    names = {name for name, _ in opened.root.children()}
    if opened.folds_case:
        return b"windows" in {name.lower() for name in names}
    return b"etc" in names and bool(names & {b"usr", b"bin", b"sbin", b"nix"})


def _logical_volumes(physical: list[_Place]) -> Iterator[_Place | Opened]:
    """The volumes of each group, from the newest of its descriptions."""
    lvm: Any = dissect("volume.lvm")
    groups: dict[str, list[tuple[int, Any]]] = {}
    bare: list[Any] = []
    for place in physical:
        try:
            device = lvm.LVM2Device(place.stream)
            metadata: dict[str, Any] | None = device.metadata
            if metadata is None:
                bare.append(device)
                continue
            group = _group_in(metadata)
            groups.setdefault(str(group["id"]), []).append((int(group["seqno"]), device))
        except MemoryError:
            raise
        except Exception as error:
            note = f"its LVM description is damaged: {type(error).__name__}: {error}"
            yield Opened(Volume(place.name, "lvm", place.size_bytes, note=note[:300]))
    for devices in groups.values():
        ordered = [device for _, device in sorted(devices, key=lambda each: -each[0])]
        group = _group_in(ordered[0].metadata)
        # A group without volumes lacks the whole section, which dissect does not expect.
        group.setdefault("logical_volumes", {})
        try:
            opened = lvm.LVM2([*ordered, *bare]).volume_group
        except MemoryError:
            raise
        except Exception as error:
            yield Opened(Volume("lvm", "lvm", 0, note=f"a damaged LVM group: {type(error).__name__}: {error}"[:300]))
            continue
        yield from _volumes_of_group(opened)


def _group_in(metadata: Any) -> dict[str, Any]:
    """The group that a description is of: the one section in it."""
    for section in metadata.values():
        if isinstance(section, dict):
            return cast(dict[str, Any], section)
    raise Unreadable("It names no group.")


def _volumes_of_group(group: Any) -> Iterator[_Place | Opened]:
    missing = [physical.name for physical in group.pv if physical.dev is None]
    for logical in group.lv:
        if not logical.is_visible or not _NAME.fullmatch(group.name) or not _NAME.fullmatch(logical.name):
            continue
        name = f"{group.name}/{logical.name}"
        extents = sum(segment.extent_count for segment in logical.segments)
        size_bytes = extents * group.extent_size * 512
        try:
            place = _Place(name, logical.open(), size_bytes)
            mark_of(place.stream)
        except MemoryError:
            raise
        except Exception as error:
            lacking = f" (disks of the group that are not in this recovery point: {len(missing)})" if missing else ""
            note = f"cannot be put together{lacking}: {type(error).__name__}: {error}"
            yield Opened(Volume(name, str(logical.type), size_bytes, note=note[:300]))
            continue
        yield place
