"""All that talks to libvirt and QEMU; nothing of libvirt (no object, no XML text, no error) leaves this package.

Every host has a lane: one thread with its connection, a queue and time limits (`lane`, over `event_loop`). Functions
here take a lane, hand it a piece of work and return frozen structs (`model`); what a host's refusal means is an error
class (`errors`).

- What is there: `take_snapshot(s)`, `find_vm` (`inventory`, `vms_of_host`, `domain_xml`, `facts`, `jobs_of_vm`).
- Power and definitions: `shut_down`, `start`, ... `define`, `undefine` (`power`).
- A definition read, described, and turned into that of another VM on another host (`definition`, `rewrite`,
  `host_ties`); the small files beside the disks (`nvram`, `tpm_state`, `host_file`), snapshots (`snapshots`), and the
  secrets that it names (`secrets_of_host`).
- Volumes to restore into (`volumes`), also while others make some in the same pool (`busy_pool`), and what is written
  into them (`disk_sink`, `raw_file`); images at rest as NBD exports (`image`); a disk that moves to another image under
  a running guest (`disk_move`), and where a server listens that QEMU reads a disk from (`served_disks`).
- The guest: its agent (`agent`), a channel for bulk data that is plugged in for one transfer (`guest_channel`), files
  on their way out and back as tar (`tar_stream`); its file systems held still with a thaw that a second process
  guarantees (`freeze`, `thaw`, `thaw_guard`).
- The way to a host's machine and its files: `lane.reach`, `lane.files` (`reach`, `reaching`, `files_of_host`); over SSH
  with the system's `ssh` (`ssh_reach`, `ssh_login`, `ssh_hello`, `ssh_connection`, `files_over_ssh`); over TLS without
  files (`tls_reach`, `volume_upload`).
- One moment of all disks of a running or paused VM, as NBD exports (`pull_backup`, `checkpoints`, `scratch`).

`agent`, `checkpoints`, `definition`, `freeze`, `image`, `pull_backup` and `volumes` are part of the face as modules:
their verbs read best with their names before them (`volumes.create`).

libvirt is imported when a lane first connects, never before: it costs a tenth of a second and may be missing.
May import: `engine.errors`, `engine.settings`, `engine.nbd`.
"""

from engine.hosts.errors import (
    ExistsOnHost,
    GuestDidNotAnswer,
    GuestDidNotShutDown,
    HostBusy,
    HostFull,
    HostRefused,
    HostUnreachable,
    MissingOnHost,
)
from engine.hosts.inventory import FACTS_TIMEOUT_S, find_vm, require_snapshot, take_snapshot, take_snapshots
from engine.hosts.lane import HostLane
from engine.hosts.lanes import HostLanes
from engine.hosts.power import define, power_off, resume, shut_down, start, suspend, undefine, vm_state

__all__ = [
    "FACTS_TIMEOUT_S",
    "ExistsOnHost",
    "GuestDidNotAnswer",
    "GuestDidNotShutDown",
    "HostBusy",
    "HostFull",
    "HostLane",
    "HostLanes",
    "HostRefused",
    "HostUnreachable",
    "MissingOnHost",
    "define",
    "find_vm",
    "power_off",
    "require_snapshot",
    "resume",
    "shut_down",
    "start",
    "suspend",
    "take_snapshot",
    "take_snapshots",
    "undefine",
    "vm_state",
]
