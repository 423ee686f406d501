"""Make a recovery point: from a host to a repository.

1. Look at the VM: state, disks, what else is at work on it; refuse with the owner's name if something is.
2. Open the repository and take a writer's lease: no host is touched for a repository that is not there.
3. Fix the moment (`moment.py`), the only step that the guest may notice:
   hot   freeze through the agent, begin, thaw;
   cold  shut down, start paused, begin, resume: the downtime of a reboot;
   off   serve the images at rest, nothing is started.
4. Keep what a restore needs beside the disks (`beside_disks.py`): definition, NVRAM, TPM state, boot files, snapshots'
   list, networks, pools, facts of the host. At once, for a guest changes some of it; with notes of what is not kept.
5. Copy every disk beside the running guest: what was written since the last recovery point, where the host can tell
   (`reading.py` decides, `changed_blocks.py` copies, and samples what it was told); otherwise all of it
   (`disk_copy.py`). Data is read, zeroes are only noted, and the recovery point is complete by itself either way.
6. Commit the manifest; only then delete the checkpoints of earlier points.

Files from inside a guest are a recovery point of another kind, made another way (`guest_files.py`); `kinds.py` chooses.

Of several backups that are asked for in one go, `at_once.py` says which may run side by side, and `again.py` which
failures are worth another attempt. Where a guest ignores its shutdown, `ignored_shutdown.py` has the ways on.

Before an act that has to be undone (a freeze, a shutdown) the VM's host is given a note of it (`vm_notes.py`): if this
process dies in the middle, the next backup of the VM, or `newhope doctor --repair`, undoes it (`leftovers.py`), and
takes away what else was left (`stray_marks.py`; both in one: `reconciling.py`).

A failure at any step leaves the guest running and thawed, every earlier recovery point usable and no half one listed.

Imports hosts, repository, nbd, fleet, jobs, settings; knows no libvirt.
"""

from engine.backup.again import wait_before_again_s
from engine.backup.at_once import serves, startable
from engine.backup.ignored_shutdown import WayOn, WhatNow, shutdown_was_ignored, ways_on
from engine.backup.kinds import make_recovery_point, plan
from engine.backup.leftovers import Leftover, leftovers_on_host, put_right_on_host
from engine.backup.plan import BackupPlan, PlainRepository, Request, lock_of, lock_of_vm
from engine.backup.reading import is_doubtful
from engine.backup.reconciling import dead_work_on, kept_notes, leftovers_of, put_right
from engine.backup.vm_notes import KeptNote

__all__ = [
    "BackupPlan",
    "KeptNote",
    "Leftover",
    "PlainRepository",
    "Request",
    "WayOn",
    "WhatNow",
    "dead_work_on",
    "is_doubtful",
    "kept_notes",
    "leftovers_of",
    "leftovers_on_host",
    "lock_of",
    "lock_of_vm",
    "make_recovery_point",
    "plan",
    "put_right",
    "put_right_on_host",
    "serves",
    "shutdown_was_ignored",
    "startable",
    "wait_before_again_s",
    "ways_on",
]
