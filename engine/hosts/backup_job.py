"""The backup job that runs on a VM: whose it is, how it goes, and its end.

libvirt allows one a VM, whoever began it. Ours are known by the name of their socket (`scratch`); only those are ever
ended, and the question whether it is ours is asked anew right before.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.errors import Conflict
from engine.hosts import backup_xml, scratch, vm_note
from engine.hosts.backup_xml import RunningBackup
from engine.hosts.errors import NO_DOMAIN, OPERATION_INVALID
from engine.hosts.model import Vm, VmState
from engine.hosts.owner import Owner, is_dead
from engine.hosts.vm_note import VmNote
from engine.hosts.vm_state import from_libvirt

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

END_TIMEOUT_S = 30.0

_NO_BACKUP_JOB = 104
_POLL_S = 0.02


def running_backup(domain: libvirt.virDomain) -> RunningBackup | None:
    """The backup job that runs on the VM, whoever began it; None if there is none, or the VM is off."""
    import libvirt

    try:
        return backup_xml.running_backup(domain.backupGetXMLDesc())
    except libvirt.libvirtError as error:
        if error.get_error_code() in (_NO_BACKUP_JOB, OPERATION_INVALID):
            return None
        raise


def end(lane: HostLane, vm_uuid: str, vm_name: str, socket: Path) -> None:
    """End the job that serves on `socket`, and wait until it is over; any other job is not touched.

    A VM that is off or gone has no job. Raises HostUnreachable, HostRefused, and Conflict if the job does not end.
    """
    deadline = time.monotonic() + END_TIMEOUT_S
    ask = True
    while lane.run(partial(_still_runs, vm_uuid=vm_uuid, socket=socket, ask=ask)):
        ask = False
        if time.monotonic() > deadline:
            raise Conflict(
                f"The backup job of {vm_name} does not end: it was asked to {END_TIMEOUT_S:.0f} s ago.",
                untouched="The guest runs on; the job's scratch files are still there.",
                next_step=f"Look at it: virsh domjobinfo {vm_name}",
            )
        time.sleep(_POLL_S)


def _still_runs(connection: libvirt.virConnect, *, vm_uuid: str, socket: Path, ask: bool) -> bool:
    import libvirt

    try:
        domain = connection.lookupByUUIDString(vm_uuid)
        running = running_backup(domain)
        if running is None or running.socket != socket:
            return False
        if ask:
            domain.abortJob()
    except libvirt.libvirtError as error:
        if error.get_error_code() == NO_DOMAIN:
            return False
        # "No job is active": it ended between the two questions, and the next look will say so.
        if error.get_error_code() != OPERATION_INVALID:
            raise
    return True


class WorkOnVm(Struct, frozen=True):
    """What newhope, and whoever else, is doing to a VM, as its host tells."""

    state: VmState
    domain_id: int
    """libvirt's number of the running VM; -1 if it is off."""
    job: RunningBackup | None
    """The backup job that runs, whoever began it."""
    note: VmNote | None

    @property
    def job_owner(self) -> Owner | None:
        """The process that the backup job belongs to; None if there is none, or it is not newhope's."""
        return scratch.owner_of(self.job.socket) if self.job is not None and self.job.socket is not None else None


def look(lane: HostLane, vm_uuid: str) -> WorkOnVm:
    """Ask the host. Raises HostUnreachable, HostRefused, MissingOnHost."""

    def ask(connection: libvirt.virConnect) -> WorkOnVm:
        domain = connection.lookupByUUIDString(vm_uuid)
        return WorkOnVm(
            state=from_libvirt(domain.state()[0]),
            domain_id=domain.ID(),
            job=running_backup(domain),
            note=vm_note.read(domain),
        )

    return lane.run(ask)


def abandoned_files(lane: HostLane, vm: Vm, domain_id: int) -> tuple[Path, ...]:
    """Sockets and scratch files of a VM's jobs whose process is dead; of a host that shows no files, none."""
    if not lane.files.reachable:
        return ()
    folders = {scratch.folder_for(lane, domain_id, vm.name), scratch.own_folder(lane)}
    return tuple(path for folder in sorted(folders) for path in scratch.abandoned(lane, folder, vm.uuid))


def clear_leftovers(lane: HostLane, vm: Vm) -> tuple[str, ...]:
    """End the job and remove the files that a killed newhope left for this VM; what was done, in sentences.

    Jobs of living processes, of other machines and of other programs are left alone.
    Raises HostUnreachable, HostRefused, MissingOnHost, and Conflict if such a job does not end.
    """
    done: list[str] = []
    work = look(lane, vm.uuid)
    owner = work.job_owner
    if work.job is not None and work.job.socket is not None and owner is not None and is_dead(owner, lane):
        end(lane, vm.uuid, vm.name, work.job.socket)
        lane.files.remove((work.job.socket, *work.job.scratch))
        done.append(f"Ended the backup job of {vm.name} that {owner} had left behind.")
    files = abandoned_files(lane, vm, work.domain_id)
    lane.files.remove(files)
    if files:
        named = ", ".join(path.name for path in files)
        done.append(f"Removed {named} of {vm.name} from {files[0].parent}.")
    return tuple(done)


def raise_if_ours(vm: Vm, running: RunningBackup | None) -> None:
    """Raise Conflict if a job is newhope's, naming its process."""
    owner = scratch.owner_of(running.socket) if running is not None and running.socket is not None else None
    if owner is None:
        return
    waiting = "Wait for it: newhope jobs"
    if not owner.here:
        waiting = f"Wait for it; if that machine is gone for good, end the job: virsh domjobabort {vm.name}"
    raise Conflict(f"{vm.name} on {vm.host} is being backed up by newhope already, by {owner}.", next_step=waiting)
