"""`newhope files`: the files in a recovery point: list them, write them here, or put them back into a running guest."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.cli.points import REPOSITORY
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.documents import Document
    from engine.repository import GuestEntry, Point
    from engine.restore import PointFiles


@click.command("files", cls=Command)
@click.argument("point_name", metavar="POINT")
@click.argument("path", required=False, default="", metavar="[PATH]")
@click.option("-R", "--recursive", is_flag=True, help="List what is in folders, too.")
@click.option("--get", "destination", metavar="DEST", type=click.Path(path_type=Path), help="Write it to this machine.")
@click.option("--overwrite", is_flag=True, help="With --get: replace what has the same name.")
@click.option("--salvage", is_flag=True, help="From damaged disks: what is left, and a list of what is lost.")
@click.option("--put-back", is_flag=True, help="Put it back into the running guest that it is from.")
@click.option("--as", "as_path", metavar="PATH", help="With --put-back: under this path. [default: its own]")
@REPOSITORY
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="With --put-back: show what would be done.")
@click.pass_obj
def files(
    invocation: Invocation,
    point_name: str,
    path: str,
    recursive: bool,
    destination: Path | None,
    overwrite: bool,
    salvage: bool,
    put_back: bool,
    as_path: str | None,
    repository: str | None,
    yes: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """The files in POINT: those of PATH, or all.

    A point of a VM has disks: without PATH their volumes are listed, with /PATH what the root file system has there,
    with VOLUME:/PATH what that volume has. No host, no root and no room for disks is needed. Partitions, LVM, ext2/3/4,
    XFS, Btrfs, NTFS and FAT are read by a process that may do nothing else; what a guest encrypted cannot be.

    A point of kind guest has files (`newhope backup VM --guest-files`). Where a VM has such points, VM@latest is the
    newest of them here, unless PATH names a volume; an id always means the one point.

    Put back, they get their old owners, modes and times; what has one of their names and another content is moved
    aside in the guest, as NAME.before-TIME, and stays there. The guest needs its agent, a shell and tar.

    Written here, nothing that is there already is replaced unless --overwrite says so, no link of the guest is
    followed, and owners are set only for root. Programs lose their set-user-ID bits; devices and pipes are left out.

    \b
    Examples:
      newhope files web@latest                  the volumes in its disks, or its files
      newhope files web@latest /etc             what it holds there, like ls
      newhope files web@latest vg0/root:/etc    the same of one volume
      newhope files web@latest /etc/hosts --get /tmp
      newhope files a1b2c3 /etc --get ./etc-of-yesterday
      newhope files web@-1 /etc/nginx --put-back
      newhope files web@-1 /etc --put-back --as /root/etc-of-yesterday
    """
    _refuse_what_does_not_go_together(destination, put_back, overwrite=overwrite, as_path=as_path, path=path)
    chosen = _chosen(invocation, point_name, path, repository, put_back=put_back)
    if _has_disks(chosen) and not put_back:
        from engine.cli.files_of_disks import Wanted, show_or_get

        if recursive:
            raise Usage("-R lists points of kind guest.", next_step="newhope files POINT PATH --get DEST has it all.")
        if destination is not None and not path:
            raise Usage("Name what to get.", next_step=f"newhope files {point_name} /etc/hosts --get {destination}")
        show_or_get(invocation, chosen, Wanted(path, destination, overwrite, salvage, repository))
        return ExitCode.OK
    from engine.restore import plain_path

    wanted = plain_path(path)
    with opened_files(invocation, chosen, repository) as (point, found):
        if put_back:
            from engine.cli.files_back import Choices, put_files_back

            return put_files_back(invocation, point, found, Choices(path, as_path, repository, yes, follow, dry_run))
        if destination is not None:
            _get(invocation, found, wanted, destination, overwrite=overwrite)
        else:
            _list(invocation, point, found, wanted, recursive=recursive)
    return ExitCode.OK


def _refuse_what_does_not_go_together(
    destination: Path | None, put_back: bool, *, overwrite: bool, as_path: str | None, path: str
) -> None:
    if destination is not None and put_back:
        raise Usage("Say --get or --put-back, one of them.", next_step="`newhope files --help` has examples of both.")
    if overwrite and destination is None:
        raise Usage("--overwrite goes with --get.", next_step="newhope files POINT PATH --get DEST --overwrite")
    if as_path is not None and not put_back:
        raise Usage("--as goes with --put-back.", next_step="newhope files POINT PATH --put-back --as PATH")
    if put_back and not path.strip("/"):
        raise Usage("Name what to put back.", next_step="newhope files POINT /etc/hosts --put-back")


@contextmanager
def opened_files(invocation: Invocation, point: Point, repository: str | None) -> Generator[tuple[Point, PointFiles]]:
    """A point of kind guest, and its files. Raises NoFilesInIt."""
    from engine.cli.opened_repository import open_named
    from engine.restore import GuestPointFiles, NoFilesInIt

    if _has_disks(point):
        vm = point.manifest.vm.name
        raise NoFilesInIt(
            f"{vm}@{point.id[:8]} holds disks; files are put back from points of kind guest.",
            next_step=f"Get them here first (--get DEST), or use such a point: newhope points {vm}.",
        )
    name = point.repository if repository is None else repository
    with open_named(lambda: invocation.settings, name) as opened, opened.reader() as reader:
        yield point, GuestPointFiles(reader, point)


def _chosen(invocation: Invocation, name: str, path: str, repository: str | None, *, put_back: bool) -> Point:
    """The point that a name means here: of guest files where the VM has such points and PATH names no volume."""
    from engine.cli.named import find_point
    from engine.cli.points import read_points
    from engine.repository import PointKind, parse_point_name

    found = read_points(invocation, repository)[1]
    vm, _ = parse_point_name(name)
    of_guest = any(not _has_disks(each) and vm in (each.manifest.vm.name, each.manifest.vm.uuid) for each in found)
    on_volume = ":" in path and not path.startswith("/")
    return find_point(found, name, PointKind.GUEST if put_back or (of_guest and not on_volume) else PointKind.VM)


def _has_disks(point: Point) -> bool:
    from engine.repository import PointKind

    return point.manifest.kind is not PointKind.GUEST


def _list(invocation: Invocation, point: Point, found: PointFiles, path: bytes, *, recursive: bool) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.repository import EntryKind
    from engine.restore import below

    top = found.stat(path)
    if recursive:
        entries = [entry for entry in below(found, path) if entry.path]
    elif top.kind is EntryKind.FOLDER:
        entries = list(found.children(path))
    else:
        entries = [top]
    if invocation.json:
        printing.show_json({"files": [_document(found, entry) for entry in entries], "point": point.id})
        return
    columns = (
        Column("MODE"),
        Column("OWNER"),
        Column("GROUP"),
        Column("SIZE", right=True),
        Column("CHANGED"),
        Column("NAME"),
    )
    printing.show_table(columns, [_row(found, entry) for entry in entries])


def _row(found: PointFiles, entry: GuestEntry) -> tuple[str, ...]:
    from datetime import UTC, datetime

    from engine.cli.wording import local, size
    from engine.repository import EntryKind
    from engine.restore import shown, size_of

    leads_to = {EntryKind.SYMLINK: " -> ", EntryKind.HARD_LINK: " = /"}.get(entry.kind)
    name = f"/{shown(entry.path)}" + (f"{leads_to}{shown(entry.target)}" if leads_to else "")
    has_size = entry.kind in (EntryKind.FILE, EntryKind.HARD_LINK)
    return (
        _mode(entry),
        entry.owner or str(entry.uid),
        entry.group or str(entry.gid),
        size(size_of(found, entry)) if has_size else "",
        local(datetime.fromtimestamp(entry.mtime_ns / 10**9, UTC)) if entry.mtime_ns else "",
        name,
    )


def _mode(entry: GuestEntry) -> str:
    import stat

    from engine.repository import EntryKind

    kinds = {
        EntryKind.FOLDER: stat.S_IFDIR,
        EntryKind.SYMLINK: stat.S_IFLNK,
        EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
        EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
        EntryKind.FIFO: stat.S_IFIFO,
    }
    return stat.filemode(kinds.get(entry.kind, stat.S_IFREG) | entry.mode)


def _document(found: PointFiles, entry: GuestEntry) -> Document:
    from datetime import UTC, datetime

    from engine.repository import EntryKind
    from engine.restore import shown, size_of

    is_link = entry.kind in (EntryKind.SYMLINK, EntryKind.HARD_LINK)
    return {
        "path": f"/{shown(entry.path)}",
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "owner": entry.owner,
        "group": entry.group,
        "changed": datetime.fromtimestamp(entry.mtime_ns / 10**9, UTC).isoformat(),
        "size_bytes": size_of(found, entry) if entry.kind in (EntryKind.FILE, EntryKind.HARD_LINK) else 0,
        "target": shown(entry.target) if is_link else None,
    }


def _get(invocation: Invocation, found: PointFiles, path: bytes, destination: Path, *, overwrite: bool) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, size
    from engine.restore import destination_for, get

    place = destination_for(path, destination.absolute())
    with invocation.patience("reading files"):
        got = get(found, path, place, overwrite=overwrite, advance=lambda done: None)
    if invocation.json:
        printing.show_json(
            {
                "got": {
                    "destination": str(got.destination),
                    "files": got.files,
                    "size_bytes": got.size_bytes,
                    "left_out": list(got.left_out),
                }
            }
        )
        return
    printing.say(f"{count(got.files, 'file')}, {size(got.size_bytes)}, written to {got.destination}.")
    for each in got.left_out:
        printing.say(f"! left out: {each}")
