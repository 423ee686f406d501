"""What is at work on a running VM, whoever started it.

Two kinds exist and do not know of each other: domain jobs (backup, migration, save; one a VM) and block jobs (pull,
copy, commit; one a disk). Both questions go to QEMU itself, and hang with a QEMU that hangs (stopped, or waiting for
a dead file server). Whether a command is under way needs no answer of QEMU, so that is asked before.

Of a backup the files tell who began it (`backup_owner`); of all other work libvirt keeps no owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.hosts import backup_job
from engine.hosts.backup_owner import owner_in_words
from engine.hosts.model import Vm

if TYPE_CHECKING:
    import libvirt

_CONTROL_OCCUPIED = 2
_CONTROL_ERROR = 3
_BUSY_AFTER_MS = 1000

_OPERATIONS = {
    1: "starting",
    2: "being saved",
    3: "being restored from a saved state",
    4: "a migration to this host",
    5: "a migration to another host",
    6: "a snapshot",
    7: "a revert to a snapshot",
    8: "a memory dump",
    10: "a snapshot being deleted",
}
_BLOCK_JOBS = {
    0: "a block job",
    1: "a block pull",
    2: "a block copy",
    3: "a block commit",
    4: "a block commit",
    5: "a backup",
}


SILENT = "its QEMU does not answer"


def qemu_is_busy(domain: libvirt.virDomain) -> bool:
    """Whether a running VM's QEMU has been busy with a command for so long that another would wait behind it."""
    import libvirt

    try:
        control, _, since_ms = domain.controlInfo()
    except libvirt.libvirtError:
        # Off in the meantime, or a driver that cannot tell.
        return False
    return control == _CONTROL_ERROR or (control == _CONTROL_OCCUPIED and since_ms > _BUSY_AFTER_MS)


def current_job(domain: libvirt.virDomain, vm: Vm) -> str | None:
    """What is at work on the VM, in words; None if nothing is. Asks QEMU."""
    import libvirt

    try:
        return _domain_job(domain) or _block_job(domain, vm)
    except libvirt.libvirtError:
        # Off in the meantime, or a driver without jobs.
        return None


def _domain_job(domain: libvirt.virDomain) -> str | None:
    import libvirt

    stats = domain.jobStats()
    if int(stats.get("type", 0)) not in (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED):
        return None
    operation = int(stats.get("operation", 0))
    if operation == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
        running = backup_job.running_backup(domain)
        return f"a backup {owner_in_words(running)}" if running is not None else None
    return _OPERATIONS.get(operation, "a job")


def _block_job(domain: libvirt.virDomain, vm: Vm) -> str | None:
    for disk in vm.disks:
        if disk.source is None or disk.device not in ("disk", "lun"):
            continue
        job = domain.blockJobInfo(disk.target)
        if job:
            return f"{_BLOCK_JOBS.get(job['type'], 'a block job')} of {disk.target}"
    return None
