"""Pull backups: every disk of a running or paused VM as it was at one moment, readable over NBD while the VM goes on.

1. `begin` looks what stands in the way: another job (a conflict, unless it is one that a killed newhope left: that is
   ended), no data disk, no room for scratch files.
2. One libvirt transaction over all data disks (`virDomainBackupBegin`) fixes the moment and, where disks can hold dirty
   bitmaps, sets a checkpoint there. This takes a tenth of a second; then the guest may be thawed, resumed or booted on.
   Disks with a checkpoint of an earlier moment tell what was written since; one whose bitmap turns out to be missing or
   inconsistent is served all the same, only without it.
3. QEMU serves the disks on a Unix socket. What the guest overwrites goes to scratch files first, so room is watched
   (`how_it_goes`) for as long as the copy takes.
4. `finish` ends the job and removes socket and scratch files; it can be called at any time, any number of times.

The new checkpoint stays when the job ends. Whoever fails to commit what was read deletes it (`checkpoints.delete`); its
bitmap then joins the one before it, so a failed copy costs the next one nothing.

Only jobs whose socket has one of our names (`scratch`) are ever ended here, never anybody else's.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.hosts import backup_job, backup_xml, checkpoints, scratch
from engine.hosts.backup_job import clear_leftovers
from engine.hosts.backup_xml import DiskOfJob, TlsListener
from engine.hosts.checkpoints import delete as delete_checkpoint
from engine.hosts.checkpoints import own_checkpoints
from engine.hosts.domain_xml import read_disk
from engine.hosts.errors import CHECKPOINT_INCONSISTENT, NO_DOMAIN_CHECKPOINT, HostRefused, MissingOnHost
from engine.hosts.jobs_of_vm import current_job
from engine.hosts.model import Disk, Vm
from engine.hosts.scratch import ScratchFiles, ScratchUnusable
from engine.hosts.xml_tree import parse
from engine.nbd import Address, ServerUnreachable, dirty_bitmap_context, open_socket

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

__all__ = [
    "DiskExport",
    "Progress",
    "PullBackup",
    "begin",
    "clear_leftovers",
    "delete_checkpoint",
    "finish",
    "how_it_goes",
    "own_checkpoints",
    "pulling",
]

_KEEPS_GUEST_SINCE = 11_010_000
BEGIN_TIMEOUT_S = 45.0
"""Longer than the 30 s that libvirt waits for its lock of the VM, so that its own reason is heard."""


_GREETING_TIMEOUT_S = 5.0
_PORT_TAKEN = "Address already in use"
_PORTS_TRIED = 5

_WHOLE_DISKS: Mapping[str, str] = {}
_DISK_OF_BITMAP = re.compile(r"(?:of|for) (?:disk )?'([^']+)'")


class NothingToPull(NewhopeError):
    """The VM is not running, or has no disk that could be read this way."""

    exit_code = ExitCode.PREFLIGHT


class NoBackupCertificates(NewhopeError):
    """The host is reached over TLS, and its QEMU is not set up to serve disks over TLS too."""

    exit_code = ExitCode.PREFLIGHT


class DiskExport(Struct, frozen=True):
    """One disk as it was at the moment, on the job's NBD server."""

    target: str
    export: str
    size_bytes: int
    address: Address
    """Where it is read from here."""
    checkpoint: bool
    """Whether a dirty bitmap counts on this disk from the moment."""
    since: str | None = None
    """Checkpoint since which `bitmap` tells what was written; None if the disk can only be read whole."""
    bitmap_lost: str = ""
    """Why there is none although one was asked for, in the host's words."""

    @property
    def bitmap(self) -> str | None:
        """The NBD context that tells what was written since the checkpoint `since`."""
        return dirty_bitmap_context(backup_xml.BITMAP) if self.since is not None else None


class PullBackup(Struct, frozen=True):
    """A backup job that runs: the moment, where to read, and what to take away at the end."""

    vm_uuid: str
    vm: str
    host: str
    moment: datetime
    """Just after the job had begun, so never before what the disks show."""
    exports: tuple[DiskExport, ...]
    left_out: tuple[str, ...]
    """Drives that hold no data of the VM (CD and floppy drives, empty ones), and transient disks, whose QEMU refuses:
    these are read at rest, for nobody writes to them."""
    checkpoint: str | None
    """Name of the new checkpoint; None if none was asked for, or no disk can hold a bitmap."""
    files: ScratchFiles
    listens: Path | TlsListener
    """Where the job's NBD server listens on the host."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Socket and scratch files on the host."""
        return (self.files.socket, *(self.files.scratch(export.target) for export in self.exports))


class Progress(Struct, frozen=True):
    """How a job goes, as seen from the host."""

    over: str | None
    """Why it no longer runs, in a sentence; None while it does."""
    scratch_used_bytes: int = 0
    scratch_free_bytes: int | None = None
    """Room left on the scratch folder's file system; None if nobody tells."""


class _Prepared(Struct, frozen=True):
    """What the host says of the VM just before the job."""

    domain_id: int
    disks: tuple[Disk, ...]
    """All data disks, with the capacity they have now."""
    left_out: tuple[str, ...]


def begin(lane: HostLane, vm: Vm, *, checkpoint: str | None, since: Mapping[str, str] = _WHOLE_DISKS) -> PullBackup:
    """Fix the moment for all data disks of a running or paused VM; dirty bitmaps count from `checkpoint`, if named.

    `since` names, for each disk that is to tell what was written, the checkpoint from when. A bitmap that is missing or
    inconsistent costs only that disk its bitmap: the export says so (`bitmap_lost`).
    On an error nothing is left: no job, no checkpoint, no file.
    Raises Conflict (another job), NothingToPull, ScratchUnusable, NoSpace, HostRefused, MissingOnHost.
    """
    clear_leftovers(lane, vm)
    prepared = lane.run(lambda connection: _prepare(connection, vm))
    files = scratch.new_files(scratch.folder_for(lane, prepared.domain_id, vm.name), vm.uuid)
    scratch.check_room(lane, files)

    tracked = tuple(disk.target for disk in prepared.disks if disk.bitmaps_possible)
    # Before there is anything to be reached: the guest may be frozen, and logging in takes its time.
    lent = lane.reach.lend(files.socket)
    backup = PullBackup(
        vm_uuid=vm.uuid,
        vm=vm.name,
        host=lane.host.name,
        moment=datetime.now(UTC),
        exports=tuple(
            DiskExport(
                target=disk.target,
                export=disk.target,
                size_bytes=disk.capacity_bytes,
                address=lent.address,
                checkpoint=checkpoint is not None and disk.target in tracked,
                since=since.get(disk.target) if disk.target in tracked else None,
            )
            for disk in prepared.disks
        ),
        left_out=prepared.left_out,
        checkpoint=checkpoint if tracked else None,
        files=files,
        listens=lent.listens,
    )
    try:
        backup = _begin_with_bitmaps(lane, backup)
        _check_reachable(lane, backup)
    except BaseException:
        _take_back(lane, backup)
        raise
    return backup


def finish(lane: HostLane, backup: PullBackup) -> None:
    """End the job, if it still runs, and remove its files. The VM may be gone, its host's daemon may be a new one.

    Raises HostUnreachable, and Conflict if the job does not end; calling again later is fine.
    """
    lane.forget_failure()
    backup_job.end(lane, backup.vm_uuid, backup.vm, backup.files.socket)
    lane.reach.take_back(backup.files.socket)
    lane.files.remove(backup.paths)


@contextmanager
def pulling(lane: HostLane, vm: Vm, *, checkpoint: str | None) -> Generator[PullBackup]:
    """`begin` and `finish` as a context; if it ends with an exception, the new checkpoint goes as well."""
    backup = begin(lane, vm, checkpoint=checkpoint)
    try:
        yield backup
    except BaseException:
        _take_back(lane, backup)
        raise
    finish(lane, backup)


def how_it_goes(lane: HostLane, backup: PullBackup) -> Progress:
    """Whether the job still runs, and how its scratch files grow. Raises HostUnreachable.

    A reader whose connection broke learns here why; one that copies for long ends the job before `scratch_free_bytes`
    falls below the host's `scratch_floor_bytes`.
    """
    try:
        progress = lane.run(lambda connection: _look(connection, backup))
    except MissingOnHost:
        return Progress(over=f"{backup.vm} is no longer on {backup.host}.")
    folder = backup.files.folder
    return replace(progress, scratch_free_bytes=lane.files.free_bytes((folder,)).get(folder))


def _prepare(connection: libvirt.virConnect, vm: Vm) -> _Prepared:
    domain = connection.lookupByUUIDString(vm.uuid)
    if not domain.isActive():
        raise NothingToPull(
            f"{vm.name} on {vm.host} is not running, so QEMU cannot serve its disks.",
            next_step="Back it up as it is, switched off, or start it first.",
        )
    definition = parse(domain.XMLDesc())
    drives = [read_disk(element) for element in definition.iterfind("devices/disk")]
    data = [drive for drive in drives if drive.holds_data and not drive.transient]
    if not data:
        raise NothingToPull(
            f"{vm.name} on {vm.host} has no disk that it writes to.",
            next_step="There is nothing to back up but its definition: virsh dumpxml shows it.",
        )
    _raise_if_busy(domain, vm)
    known = {disk.target: disk for disk in vm.disks}
    return _Prepared(
        domain_id=domain.ID(),
        disks=tuple(_as_it_is_now(domain, drive, known.get(drive.target)) for drive in data),
        left_out=tuple(drive.target for drive in drives if drive not in data),
    )


def _as_it_is_now(domain: libvirt.virDomain, drive: Disk, known: Disk | None) -> Disk:
    """The drive with its present capacity; the inventory knows more on bitmaps, for it has looked into the image."""
    return replace(
        drive,
        capacity_bytes=domain.blockInfo(drive.target)[0],
        bitmaps_possible=drive.bitmaps_possible and (known is None or known.bitmaps_possible),
    )


def _raise_if_busy(domain: libvirt.virDomain, vm: Vm) -> None:
    """A second job would be refused only after 30 s of waiting for a lock, with the guest perhaps frozen."""
    job = current_job(domain, vm)
    if job is None:
        return
    backup_job.raise_if_ours(vm, backup_job.running_backup(domain))
    raise Conflict(
        f"Something is at work on {vm.name} on {vm.host}: {job}.",
        next_step=f"Wait for it to end, or end it with the program that began it; virsh domjobinfo {vm.name} shows it.",
    )


def _begin_with_bitmaps(lane: HostLane, backup: PullBackup) -> PullBackup:
    """Begin the job, once more without the bitmap that the host could not offer, for as many as there are.

    Where the server listens on a port, another one is tried if somebody has that.
    """
    ports_left = _PORTS_TRIED
    while True:
        try:
            return replace(backup, moment=_transaction(lane, backup))
        except HostRefused as refused:
            if _PORT_TAKEN in refused.text and ports_left:
                ports_left -= 1
                lent = lane.reach.lend(backup.files.socket)
                exports = tuple(replace(export, address=lent.address) for export in backup.exports)
                backup = replace(backup, listens=lent.listens, exports=exports)
                continue
            exports = _without_lost_bitmaps(backup.exports, refused)
            if exports == backup.exports:
                raise
            backup = replace(backup, exports=exports)


def _without_lost_bitmaps(exports: tuple[DiskExport, ...], refused: HostRefused) -> tuple[DiskExport, ...]:
    """The exports without the bitmap that a refusal is about; of all disks, where it does not say of which."""
    about_bitmaps = refused.code in (CHECKPOINT_INCONSISTENT, NO_DOMAIN_CHECKPOINT) or (
        "bitmap" in refused.text and ("not found" in refused.text or "inconsistent" in refused.text)
    )
    if not about_bitmaps:
        return exports
    named = set(_DISK_OF_BITMAP.findall(refused.text)) & {each.target for each in exports if each.since is not None}
    return tuple(
        replace(each, since=None, bitmap_lost=refused.text)
        if each.since is not None and (not named or each.target in named)
        else each
        for each in exports
    )


def _transaction(lane: HostLane, backup: PullBackup) -> datetime:
    """Begin the job; the time just after."""
    wanted = [export.target for export in backup.exports]
    job = backup_xml.backup(
        backup.listens,
        (DiskOfJob(each.target, backup.files.scratch(each.target), each.since) for each in backup.exports),
        backup.left_out,
    )
    mark = None
    if backup.checkpoint is not None:
        tracked = [export.target for export in backup.exports if export.checkpoint]
        untracked = [target for target in wanted if target not in tracked]
        mark = backup_xml.checkpoint(backup.checkpoint, tracked, [*untracked, *backup.left_out])

    def start(connection: libvirt.virConnect) -> datetime:
        flags = begin_flags(connection.getLibVersion())
        connection.lookupByUUIDString(backup.vm_uuid).backupBegin(job, mark, flags)
        return datetime.now(UTC)

    try:
        return lane.run(start, timeout_s=BEGIN_TIMEOUT_S)
    except HostRefused as refused:
        if "failed to create image file" in refused.text or "bind socket" in refused.text:
            raise ScratchUnusable(
                f"QEMU on {backup.host} cannot write to the scratch folder {backup.files.folder}: {refused.text}.",
                next_step=f"Set scratch in [hosts.{backup.host}] of newhope.toml to a folder its QEMU may write to.",
            ) from None
        if isinstance(backup.listens, TlsListener) and re.search("credentials|x509|tls-creds", refused.text):
            raise NoBackupCertificates(
                f"QEMU on {backup.host} has no certificates to serve disks with, and newhope reads none in clear text: "
                f"{refused.text}.",
                next_step='Set backup_tls_x509_cert_dir = "/etc/pki/libvirt-backup" and backup_tls_x509_verify = 1 in '
                f"/etc/libvirt/qemu.conf on {backup.host}, put ca-cert.pem, server-cert.pem and server-key.pem there, "
                "readable for QEMU's user, and restart its libvirt daemon.",
            ) from None
        raise


def begin_flags(daemon_version: int) -> int:
    """Flags for `virDomainBackupBegin` at a daemon of this version, as far as libvirt here knows them too.

    Since 11.10 a guest that shuts down during the backup is kept, reset and paused, until its disks are read, and then
    switched off by libvirt (kbase, live_full_disk_backup). Before that the job dies with the guest.
    """
    import libvirt

    keep_until_read: int = getattr(libvirt, "VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN", 0)
    both_know_it = min(daemon_version, libvirt.getVersion()) >= _KEEPS_GUEST_SINCE
    return keep_until_read if both_know_it else 0


def _check_reachable(lane: HostLane, backup: PullBackup) -> None:
    """Let the job's server greet us once: better here than after minutes in a reader."""
    listening = backup.files.socket
    try:
        with open_socket(backup.exports[0].address, _GREETING_TIMEOUT_S) as probe:
            if probe.recv(1):
                return
            reason = lane.reach.why_closed(listening)
    except TimeoutError:
        # Busy, but there.
        return
    except (ServerUnreachable, OSError) as error:
        if isinstance(backup.listens, TlsListener):
            raise
        reason = _why_not(error)
    raise ScratchUnusable(
        f"The disks of {backup.vm} cannot be read at the socket {listening} of host {backup.host}: {reason}.",
        next_step=scratch.into_group_of_qemu(lane),
    )


def _why_not(error: NewhopeError | OSError) -> str:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, PermissionError):
        return "this user may not use it"
    if isinstance(cause, FileNotFoundError):
        return "it is not on this machine"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)


def _take_back(lane: HostLane, backup: PullBackup) -> None:
    """Undo `begin` as far as the host lets us; the error that is under way is the one to be told."""
    with suppress(NewhopeError):
        finish(lane, backup)
    if backup.checkpoint is not None:
        with suppress(NewhopeError):
            tracked = [export.target for export in backup.exports if export.checkpoint]
            checkpoints.take_away(lane, backup.vm_uuid, backup.checkpoint, tracked)


def _look(connection: libvirt.virConnect, backup: PullBackup) -> Progress:
    import libvirt

    domain = connection.lookupByUUIDString(backup.vm_uuid)
    running = backup_job.running_backup(domain)
    if running is not None and running.socket == backup.files.socket:
        used_bytes = 0
        with suppress(libvirt.libvirtError):
            # Refused if the VM stops at this very instant; the next look will say so.
            used_bytes = int(domain.jobStats().get("disk_temp_used", 0))
        return Progress(over=None, scratch_used_bytes=used_bytes)
    if not domain.isActive():
        return Progress(over=f"{backup.vm} on {backup.host} was switched off or crashed in the middle.")
    return Progress(over=f"The backup job of {backup.vm} on {backup.host} was ended by somebody else.")
