"""Watch a pull backup beside its copy: it ends before scratch space does, and says why when its server went away.

What a guest overwrites while it is copied goes to scratch files first, up to the size of its disks, and often these
share their file system with disks of running guests. So a thread looks at the free space, several times a second where
that costs nothing; below the host's `scratch_floor` it ends the backup job, which frees its scratch files at once. The
reader's connection breaks then, as it does when the VM is switched off or somebody ends the job, and the reason is
asked for.

The thread asks the host only for free space and, at most once, to end the job. It stops with the context.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from engine import nbd
from engine.errors import NewhopeError, NoSpace
from engine.hosts import HostLane, backup_job, pull_backup
from engine.hosts.pull_backup import PullBackup
from engine.settings import format_size

LOOK_S = 0.25
LOOK_FAR_AWAY_S = 5.0
NOTICED_WITHIN_S = 10.0
"""libvirt takes a second or two to notice that a QEMU was killed."""


class BackupInterrupted(NewhopeError):
    """What was being read went away: the VM was switched off, crashed, or somebody ended the job."""


class _ScratchWatch:
    """The thread that looks at free space, and what it did."""

    def __init__(self, lane: HostLane, backup: PullBackup) -> None:
        self._lane = lane
        self._backup = backup
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name=f"scratch-of-{backup.vm}", daemon=True)
        self.ended_with_free_bytes: int | None = None
        """What was free when it ended the job; None if it did not."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        lane, folder = self._lane, self._backup.files.folder
        every_s = LOOK_S if lane.reach.local else LOOK_FAR_AWAY_S
        while not self._over.wait(every_s):
            try:
                free_bytes = lane.files.free_bytes((folder,)).get(folder)
                if free_bytes is not None and free_bytes < lane.host.scratch_floor_bytes:
                    self.ended_with_free_bytes = free_bytes
                    backup_job.end(lane, self._backup.vm_uuid, self._backup.vm, self._backup.files.socket)
                    return
            except NewhopeError:
                # A host that is silent now: the reader notices if that lasts, and the next look may end the job.
                continue


@contextmanager
def watched(lane: HostLane, backup: PullBackup) -> Generator[None]:
    """Watch for the length of the context; an NbdError in it becomes NoSpace or BackupInterrupted with the reason."""
    watch = _ScratchWatch(lane, backup)
    watch.start()
    try:
        yield
    except nbd.NbdError as error:
        if watch.ended_with_free_bytes is not None:
            raise _too_little_room(lane, backup, watch.ended_with_free_bytes) from error
        over = _why_it_is_over(lane, backup)
        if over is None:
            raise
        raise BackupInterrupted(
            f"The backup of {backup.vm} on {backup.host} ended before its disks were read: {over}",
            untouched="Every earlier recovery point is as it was; no half one was made.",
            next_step=f"see whether {backup.vm} is as it should be (newhope vms), then back it up again.",
        ) from error
    finally:
        watch.stop()


def _why_it_is_over(lane: HostLane, backup: PullBackup) -> str | None:
    deadline = time.monotonic() + NOTICED_WITHIN_S
    while True:
        over = pull_backup.how_it_goes(lane, backup).over
        if over is not None or time.monotonic() > deadline:
            return over
        time.sleep(LOOK_S)


def _too_little_room(lane: HostLane, backup: PullBackup, free_bytes: int) -> NoSpace:
    floor = format_size(lane.host.scratch_floor_bytes)
    return NoSpace(
        f"The backup of {backup.vm} on {backup.host} was ended: its scratch folder {backup.files.folder} had only "
        f"{free_bytes >> 20} MiB free, less than the floor of {floor}.",
        untouched=f"{backup.vm} runs on, its scratch files are gone, and every earlier recovery point is as it was.",
        next_step=f"free space there, set another scratch folder or a lower scratch_floor in [hosts.{lane.host.name}], "
        "or back it up while it writes less.",
    )
