"""Practice hosts: real libvirt daemons, real QEMU, real small guests, on this machine and without root.

1. `golden` keeps what guests boot with: the distribution's cloud kernel and a first root file system (`initramfs`,
   written by `cpio`) with busybox, the QEMU guest agent and its libraries (`guest_parts`, `elf`, `kernel_modules`).
2. Every host gets folders of its own (`layout`), disks with an ext4 that holds a payload (`disks`), and a session-mode
   libvirtd (`daemon`) that runs as the caller or, for root, as `nobody` (`account`).
3. The guests (`guests`) keep a journal, one durable line a second, and answer for it through their agent
   (`guest/journal status`), so a test can tell exactly which writes a recovery point must hold.
4. A host is broken by killing its processes, known by pid and start time (`processes`), and healed by starting them.
5. `lab.json` (`record`) makes a folder a lab. `down` ends every process that names the folder, then removes it.

Locks: one process at a time changes a lab (`lab.lock`, flock); looking at it needs no lock.

May import: everything below `cli`. Its face: `Lab`, and the values it answers with.
"""

from engine.lab.guests import GUESTS, HOSTS, DiskPlan, GuestPlan
from engine.lab.lab import Lab
from engine.lab.layout import default_folder
from engine.lab.status import GuestStatus, HostStatus, LabStatus

__all__ = [
    "GUESTS",
    "HOSTS",
    "DiskPlan",
    "GuestPlan",
    "GuestStatus",
    "HostStatus",
    "Lab",
    "LabStatus",
    "default_folder",
]
