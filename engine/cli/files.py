"""`newhope files`: the files in a recovery point: list them, write them here, or put them back into a running guest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.cli.points import REPOSITORY
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.point_files import OpenedFiles
    from engine.repository import Point


class Wanted(Struct, frozen=True):
    """What the command line asks for."""

    path: str
    recursive: bool
    destination: str | None
    overwrite: bool
    salvage: bool
    put_back: bool
    as_path: str | None
    repository: str | None
    yes: bool
    follow: bool
    dry_run: bool


@click.command("files", cls=Command)
@click.argument("point_name", metavar="POINT")
@click.argument("path", required=False, default="", metavar="[PATH]")
@click.option("-R", "--recursive", is_flag=True, help="List what is in folders, too.")
@click.option("--get", "destination", metavar="DEST", help="Write it to this machine.")
@click.option("--overwrite", is_flag=True, help="With --get: replace what has the same name.")
@click.option("--salvage", is_flag=True, help="Where blocks are lost: what is left, and a list of what is lost.")
@click.option("--put-back", is_flag=True, help="Put it back into the running guest that it is from.")
@click.option("--as", "as_path", metavar="PATH", help="With --put-back: under this path. [default: its own]")
@REPOSITORY
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="With --put-back: show what would be done.")
@click.pass_obj
def files(invocation: Invocation, point_name: str, **options: object) -> ExitCode:
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
    import msgspec

    from engine.cli.opened_repository import open_named
    from engine.point_files import open_files
    from engine.repository import RepositoryDamaged

    wanted = msgspec.convert(options, Wanted)
    _refuse_what_does_not_go_together(wanted)
    point = _chosen(invocation, point_name, wanted)
    with (
        open_named(lambda: invocation.settings, wanted.repository or point.repository) as repository,
        open_files(repository, point, salvage=wanted.salvage) as opened,
    ):
        try:
            return _done(invocation, opened, wanted)
        except RepositoryDamaged as error:
            if not wanted.salvage and not wanted.put_back:
                error.next_step += " With --salvage you get what is left, and a list of what is lost."
            raise


def _done(invocation: Invocation, opened: OpenedFiles, wanted: Wanted) -> ExitCode:
    """What was asked for."""
    from engine.cli.files_shown import show_files, show_volumes, show_written
    from engine.point_files import find_place, has_disks

    with invocation.patience("looking into the disks"):
        volumes = opened.volumes()
    if has_disks(opened.point) and not wanted.path:
        if wanted.destination is not None:
            raise Usage(
                "Name what to get.",
                next_step=f"newhope files {opened.point.id[:8]} /etc/hosts --get {wanted.destination}",
            )
        show_volumes(invocation, opened.point, volumes)
        return ExitCode.OK
    place = find_place(volumes, wanted.path)
    if wanted.put_back:
        from engine.cli.files_back import put_files_back

        return put_files_back(invocation, opened, place, wanted)
    if wanted.destination is not None:
        show_written(invocation, opened, place, Path(wanted.destination), wanted)
    else:
        show_files(invocation, opened, place, recursive=wanted.recursive)
    return ExitCode.OK


def _refuse_what_does_not_go_together(wanted: Wanted) -> None:
    if wanted.destination is not None and wanted.put_back:
        raise Usage("Say --get or --put-back, one of them.", next_step="`newhope files --help` has examples of both.")
    if wanted.overwrite and wanted.destination is None:
        raise Usage("--overwrite goes with --get.", next_step="newhope files POINT PATH --get DEST --overwrite")
    if wanted.as_path is not None and not wanted.put_back:
        raise Usage("--as goes with --put-back.", next_step="newhope files POINT PATH --put-back --as PATH")
    if wanted.recursive and (wanted.put_back or wanted.destination is not None):
        raise Usage("-R goes with a list.", next_step="--get and --put-back take all that is in a folder anyway.")
    if wanted.put_back and not wanted.path.rpartition(":")[2].strip("/"):
        raise Usage("Name what to put back.", next_step="newhope files POINT /etc/hosts --put-back")


def _chosen(invocation: Invocation, name: str, wanted: Wanted) -> Point:
    """The point that a name means here: of guest files where the VM has such points and PATH names no volume."""
    from engine.cli.named import find_point
    from engine.cli.points import read_points
    from engine.point_files import has_disks
    from engine.repository import PointKind, parse_point_name

    found = read_points(invocation, wanted.repository)[1]
    vm, _ = parse_point_name(name)
    of_guest = any(not has_disks(each) and vm in (each.manifest.vm.name, each.manifest.vm.uuid) for each in found)
    on_volume = ":" in wanted.path and not wanted.path.startswith("/")
    return find_point(found, name, PointKind.GUEST if of_guest and not on_volume else PointKind.VM)
