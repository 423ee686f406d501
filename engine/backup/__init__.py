"""Make a recovery point: from a host to a repository.

1. Look at the VM: state, disks, what else is at work on it; refuse with the owner's name if something is.
2. Open the repository and take a writer's lease: no host is touched for a repository that is not there.
3. Fix the moment (`moment.py`), the only step that the guest may notice:
   hot   freeze through the agent, begin, thaw;
   cold  shut down, start paused, begin, resume: the downtime of a reboot;
   off   serve the images at rest, nothing is started.
4. Copy every disk beside the running guest: what was written since the last recovery point, where the host can tell
   (`reading.py` decides, `changed_blocks.py` copies, and samples what it was told); otherwise all of it
   (`disk_copy.py`). Data is read, zeroes are only noted, and the recovery point is complete by itself either way.
5. Keep what a restore needs beside the disks: definition, NVRAM, boot files, networks, pools, facts of the host.
6. Commit the manifest; only then delete the checkpoints of earlier points.

Of several backups that are asked for in one go, `at_once.py` says which may run side by side, and `again.py` which
failures are worth another attempt.

A failure at any step leaves the guest running and thawed, every earlier recovery point usable and no half one listed.

Imports hosts, repository, nbd, fleet, jobs, settings; knows no libvirt.
"""

from engine.backup.again import wait_before_again_s
from engine.backup.at_once import serves, startable
from engine.backup.plan import BackupPlan, Request, lock_of, plan
from engine.backup.reading import is_doubtful
from engine.backup.recovery_point import make_recovery_point

__all__ = [
    "BackupPlan",
    "Request",
    "is_doubtful",
    "lock_of",
    "make_recovery_point",
    "plan",
    "serves",
    "startable",
    "wait_before_again_s",
]
