"""What `newhope files` shows: volumes, a folder, and what was written to this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.cli.documents import Document
    from engine.cli.files import Wanted
    from engine.disk_files import Volume
    from engine.file_entry import FileEntry
    from engine.point_files import OpenedFiles, Place, PointFiles, Written
    from engine.repository import Point


def show_volumes(invocation: Invocation, point: Point, volumes: Sequence[Volume]) -> None:
    """What is on a point's disks, and why what cannot be read cannot be."""
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import size
    from engine.file_entry import shown

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
            shown(volume.label) or "-",
            size(volume.size_bytes),
            size(volume.used_bytes) if volume.used_bytes >= 0 else "-",
            ("root" if volume.root else "yes") if volume.readable else "no",
        )
        for volume in volumes
    ]
    printing.show_table(columns, rows)
    for volume in volumes:
        if volume.note:
            printing.say(f"{volume.name}: {shown(volume.note)}")
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


def show_files(invocation: Invocation, opened: OpenedFiles, place: Place, *, recursive: bool) -> None:
    """What is in a folder, like ls."""
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.file_entry import FileKind

    files = opened.on(place.volume)
    top = files.stat(place.path, follow=True)
    remarks: list[str] = []
    with invocation.patience("reading the list"):
        entries = list(_listed(files, top, remarks, recursive=recursive))
    if invocation.json:
        documents = [_document(files, entry) for entry in entries]
        printing.show_json({"point": opened.point.id, "place": place.text, "files": documents, "remarks": remarks})
        return
    columns = (
        Column("MODE"),
        Column("OWNER"),
        Column("GROUP"),
        Column("SIZE", right=True),
        Column("CHANGED"),
        Column("NAME"),
    )
    printing.show_table(columns, [_row(files, entry, whole=recursive) for entry in entries])
    if not entries and top.kind is FileKind.FOLDER:
        printing.say("The folder is empty.")
    for remark in remarks:
        printing.say(f"! {remark}")


def _listed(files: PointFiles, top: FileEntry, remarks: list[str], *, recursive: bool) -> Iterator[FileEntry]:
    from engine.file_entry import FileKind
    from engine.point_files import below

    if top.kind is not FileKind.FOLDER:
        yield top
    elif recursive:
        yield from (entry for entry in below(files, top, remarks) if entry is not top)
    else:
        children = files.children(top.path)
        remarks.extend(children.remarks)
        yield from children.entries


def show_written(invocation: Invocation, opened: OpenedFiles, place: Place, destination: Path, wanted: Wanted) -> None:
    """Write what is at a place to this machine, and what came of it."""
    from engine.cli import printing
    from engine.cli.progress_line import ProgressLine
    from engine.cli.wording import count, size
    from engine.point_files import write

    with ProgressLine(invocation) as line:

        def told(files: int, size_bytes: int, name: str) -> None:
            line.show(f"{count(files, 'file')}, {size(size_bytes)}: {name}")

        done = write(
            opened.on(place.volume),
            place.path,
            destination,
            overwrite=wanted.overwrite,
            salvage=wanted.salvage,
            progress=told,
        )
    if invocation.json:
        printing.show_json({"point": opened.point.id, "place": place.text, "written": done})
        return
    printing.say(f"{written_sentence(done)}.")
    for each in done.left_out:
        printing.say(f"! left out: {each.path}: {each.reason}")
    for lost in done.lost:
        printing.say(f"! lost: {lost.path}: {size(lost.length)} at {lost.offset} are zero in what was written")


def written_sentence(done: Written) -> str:
    """What was written, and where, without a full stop."""
    from engine.cli.wording import count, size

    parts = [count(done.files, "file"), size(done.size_bytes)]
    parts += [count(done.folders, "folder")] if done.folders else []
    parts += [count(done.symlinks, "symlink")] if done.symlinks else []
    return f"{', '.join(parts)}, written to {done.destination}"


def mode_letters(entry: FileEntry) -> str:
    """As ls shows it; where a file system knows no modes, dashes."""
    import stat

    from engine.file_entry import FileKind

    kinds = {
        FileKind.FOLDER: "d",
        FileKind.SYMLINK: "l",
        FileKind.CHARACTER_DEVICE: "c",
        FileKind.BLOCK_DEVICE: "b",
        FileKind.FIFO: "p",
        FileKind.SPECIAL: "s",
        FileKind.UNREADABLE: "?",
    }
    bits = stat.filemode(stat.S_IFREG | entry.mode)[1:] if entry.mode or entry.uid >= 0 else "-" * 9
    return kinds.get(entry.kind, "-") + bits


def _row(files: PointFiles, entry: FileEntry, *, whole: bool) -> tuple[str, ...]:
    from engine.cli.wording import size
    from engine.file_entry import FileKind
    from engine.point_files import size_of

    known = entry.uid >= 0
    return (
        mode_letters(entry),
        entry.owner or (str(entry.uid) if known else "-"),
        entry.group or (str(entry.gid) if known else "-"),
        size(size_of(files, entry)) if entry.kind in (FileKind.FILE, FileKind.HARD_LINK) else "-",
        changed(entry),
        name_and_target(entry, whole=whole),
    )


def changed(entry: FileEntry) -> str:
    """When its content changed last; a dash where that is not known, or no time."""
    from datetime import UTC, datetime

    from engine.cli.wording import local

    try:
        return local(datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC))[:16] if entry.mtime_ns else "-"
    except (ValueError, OverflowError, OSError):
        return "-"


def name_and_target(entry: FileEntry, *, whole: bool = False) -> str:
    """Its name, or its whole path, with what it leads to or what is wrong with it."""
    from engine.file_entry import FileKind, shown

    name = f"/{shown(entry.path)}" if whole or not entry.path else shown(entry.name)
    match entry.kind:
        case FileKind.FOLDER:
            return name if name == "/" else f"{name}/"
        case FileKind.SYMLINK:
            return f"{name} -> {shown(entry.target)}"
        case FileKind.HARD_LINK:
            return f"{name} = /{shown(entry.target)}"
        case FileKind.UNREADABLE:
            return f"{name}  ({shown(entry.problem)})"
        case _:
            return name


def _volume_document(volume: Volume) -> Document:
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


def _document(files: PointFiles, entry: FileEntry) -> Document:
    """Paths that are no UTF-8 are escaped in `path`; `path_hex` has their bytes."""
    from engine.file_entry import FileKind, shown
    from engine.point_files import size_of

    return {
        "path": f"/{shown(entry.path)}",
        "path_hex": entry.path.hex(),
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid if entry.uid >= 0 else None,
        "gid": entry.gid if entry.gid >= 0 else None,
        "owner": entry.owner or None,
        "group": entry.group or None,
        "mtime_ns": entry.mtime_ns,
        "size_bytes": size_of(files, entry) if entry.kind in (FileKind.FILE, FileKind.HARD_LINK) else 0,
        "target": shown(entry.target) or None,
        "problem": entry.problem or None,
    }
