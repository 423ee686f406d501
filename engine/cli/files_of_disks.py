"""`newhope files` for a recovery point of disks: their volumes, folders in them, and single files on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.disk_files import DiskFiles, Entry, Volume
    from engine.from_disks import Extracted, Place
    from engine.repository import Point


class Wanted(Struct, frozen=True):
    """What the command line asks for."""

    path: str
    destination: Path | None
    overwrite: bool
    salvage: bool
    repository: str | None


def show_or_get(invocation: Invocation, point: Point, wanted: Wanted) -> None:
    """List the volumes or a folder, or get what is at a path."""
    from engine.cli.opened_repository import open_named
    from engine.from_disks import find_place, open_files
    from engine.repository import RepositoryDamaged

    with (
        open_named(lambda: invocation.settings, wanted.repository or point.repository) as opened,
        open_files(opened, point, salvage=wanted.salvage) as source,
    ):
        try:
            with invocation.patience("looking into the disks"):
                volumes = source.volumes()
            if not wanted.path:
                _show_volumes(invocation, point, volumes)
                return
            place = find_place(volumes, wanted.path)
            if wanted.destination is not None:
                _get(invocation, source, place, wanted.destination, wanted)
            else:
                _list(invocation, source, place)
        except RepositoryDamaged as error:
            if not wanted.salvage:
                error.next_step += " With --salvage you get what is left, and a list of what is lost."
            raise


def _show_volumes(invocation: Invocation, point: Point, volumes: Sequence[Volume]) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import size
    from engine.from_disks import printable

    if invocation.json:
        printing.show_json({"point": point.id, "volumes": [_volume_document(volume) for volume in volumes]})
        return
    columns = (
        Column("VOLUME"),
        Column("HOLDS"),
        Column("LABEL", gives_way=True),
        Column("SIZE", right=True),
        Column("USED", right=True),
        Column("FILES"),
    )
    rows = [
        (
            volume.name,
            volume.content,
            printable(volume.label.encode(errors="replace")) or "-",
            size(volume.size_bytes),
            size(volume.used_bytes) if volume.used_bytes >= 0 else "-",
            ("root" if volume.root else "yes") if volume.readable else "no",
        )
        for volume in volumes
    ]
    printing.show_table(columns, rows)
    for volume in volumes:
        if volume.note:
            printing.say(f"{volume.name}: {printable(volume.note.encode(errors='replace'))}")
    if _may_lack_newest(point, volumes):
        printing.say("! The guest was writing: what only the log of its XFS or NTFS had is not seen here.")
    readable = [volume for volume in volumes if volume.readable]
    if readable:
        best = next((volume for volume in readable if volume.root), readable[0])
        printing.say(f"`newhope files {point.id[:8]} {best.name}:/` lists {best.name}.")


def _may_lack_newest(point: Point, volumes: Sequence[Volume]) -> bool:
    from engine.repository import Consistency

    torn = point.manifest.consistency in (Consistency.CRASH, Consistency.MEMORY)
    return torn and any(volume.readable and volume.content in ("xfs", "ntfs") for volume in volumes)


def _list(invocation: Invocation, source: DiskFiles, place: Place) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import size
    from engine.disk_files import Kind

    entry = source.find(place.volume, place.path, follow=True)
    entries, nameless = source.entries(place.volume, place.path) if entry.kind is Kind.FOLDER else ([entry], 0)
    if invocation.json:
        document = {"place": place.text, "entries": [_entry_document(each) for each in entries], "nameless": nameless}
        printing.show_json(document | {"lost": source.lost})
        return
    columns = (
        Column("MODE"),
        Column("OWNER"),
        Column("SIZE", right=True),
        Column("CHANGED"),
        Column("NAME"),
    )
    rows = [
        (
            _mode(each),
            f"{each.uid}:{each.gid}" if each.uid >= 0 else "-",
            size(each.size_bytes) if each.kind is Kind.FILE else "-",
            _changed(each.mtime_ns),
            _name(each),
        )
        for each in entries
    ]
    printing.show_table(columns, rows)
    if not rows:
        printing.say("The folder is empty.")
    if nameless:
        printing.say(f"! {nameless} names in it cannot be names of files: the file system is damaged.")
    if source.lost:
        printing.say("! A part of what the list is made from is lost: names may be missing.")


def _get(invocation: Invocation, source: DiskFiles, place: Place, destination: Path, wanted: Wanted) -> None:
    from engine.cli import printing
    from engine.cli.progress_line import ProgressLine
    from engine.cli.wording import count, size
    from engine.from_disks import extract

    with ProgressLine(invocation) as line:

        def told(files: int, size_bytes: int, name: str) -> None:
            line.show(f"{count(files, 'file')}, {size(size_bytes)}: {name}")

        done = extract(source, place, destination, overwrite=wanted.overwrite, salvage=wanted.salvage, progress=told)
    if invocation.json:
        printing.show_json({"place": place.text, "extracted": done})
        return
    parts = [count(done.files, "file"), size(done.size_bytes)]
    parts += [count(done.folders, "folder")] if done.folders else []
    parts += [count(done.symlinks, "symlink")] if done.symlinks else []
    printing.say(f"{', '.join(parts)}: {done.destination}")
    _show_what_lacks(done)


def _show_what_lacks(done: Extracted) -> None:
    from engine.cli import printing
    from engine.cli.wording import size

    for each in done.left_out:
        printing.say(f"! left out: {each.path}: {each.reason}")
    for lost in done.lost:
        printing.say(f"! lost: {lost.path}: {size(lost.length)} at {lost.offset} are zero in what was written")


def _mode(entry: Entry) -> str:
    from engine.disk_files import Kind

    letter = {Kind.FOLDER: "d", Kind.SYMLINK: "l", Kind.SPECIAL: "s", Kind.UNREADABLE: "?"}.get(entry.kind, "-")
    return letter + (_bits(entry.mode) if entry.mode or entry.uid >= 0 else "---------")


def _bits(mode: int) -> str:
    import stat

    return stat.filemode(mode)[1:]


def _changed(mtime_ns: int) -> str:
    from datetime import UTC, datetime

    from engine.cli.wording import local

    try:
        return local(datetime.fromtimestamp(mtime_ns // 10**9, UTC))[:16]
    except (ValueError, OverflowError, OSError):
        return "-"


def _name(entry: Entry) -> str:
    from engine.disk_files import Kind
    from engine.from_disks import printable

    name = printable(entry.name) or "/"
    match entry.kind:
        case Kind.FOLDER:
            return name if name == "/" else f"{name}/"
        case Kind.SYMLINK:
            return f"{name} -> {printable(entry.target)}"
        case Kind.UNREADABLE:
            return f"{name}  ({printable(entry.problem.encode(errors='replace'))})"
        case _:
            return name


def _volume_document(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "holds": volume.content,
        "label": volume.label,
        "size_bytes": volume.size_bytes,
        "used_bytes": volume.used_bytes if volume.used_bytes >= 0 else None,
        "readable": volume.readable,
        "root": volume.root,
        "note": volume.note,
    }


def _entry_document(entry: Entry) -> dict[str, object]:
    """Names that are no UTF-8 are escaped in `name`; `name_hex` has their bytes."""
    from engine.from_disks import printable

    return {
        "name": printable(entry.name),
        "name_hex": entry.name.hex(),
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid if entry.uid >= 0 else None,
        "gid": entry.gid if entry.gid >= 0 else None,
        "size_bytes": entry.size_bytes,
        "mtime_ns": entry.mtime_ns,
        "target": printable(entry.target) or None,
        "problem": entry.problem or None,
    }
