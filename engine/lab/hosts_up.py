"""Making one practice host: folders, disks, daemon, pool, network, definitions; and starting its guests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from xml.etree import ElementTree

from engine.hosts import HostLane, agent
from engine.lab import console, daemon, disks, guests
from engine.lab.acceleration import Acceleration
from engine.lab.account import Account
from engine.lab.golden import BootFiles
from engine.lab.guest_parts import Tell
from engine.lab.guests import AGENT_CHANNEL, GuestPlan
from engine.lab.layout import HostLayout
from engine.settings import Host

if TYPE_CHECKING:
    import libvirt

_BOOT_TIMEOUT_S = 180.0
_DEFINE_TIMEOUT_S = 60.0
"""The first definition makes a daemon ask every QEMU what it can do."""
BOOTS_AT_ONCE = 2
"""More would not be faster under emulation, and each would seem slow."""


class _Autostarted(Protocol):
    def setAutostart(self, autostart: int) -> int: ...


class _NetworkKeeper(Protocol):
    def networkDefineXML(self, xml: str) -> object: ...


@contextmanager
def lane_to(host: HostLayout) -> Generator[HostLane]:
    """A lane of one's own to a practice host, closed at the end."""
    lane = HostLane(Host(name=host.name, uri=host.uri))
    try:
        yield lane
    finally:
        lane.close()


def prepare(host: HostLayout, account: Account, boot: BootFiles, plans: Sequence[GuestPlan]) -> None:
    """Make the host's folders, boot files and disks."""
    account.folder(host.folder, 0o711)
    account.folder(host.pool)
    account.folder(host.boot)
    account.folder(host.folder / "scratch", 0o711)
    for source, name in ((boot.kernel, "vmlinuz"), (boot.initrd, "initrd")):
        # A copy: a link would let a mistake in one lab spoil the cache of all.
        shutil.copyfile(source, host.boot / name)
        account.own(host.boot / name)
    for plan in plans:
        for disk in plan.disks:
            path = host.pool / plan.file_name(disk)
            disks.make(plan, disk, path)
            account.own(path)


def define(
    host: HostLayout, number: int, lab_folder: Path, acceleration: Acceleration, plans: Sequence[GuestPlan]
) -> None:
    """Tell the host's daemon of its pool, network and guests."""

    def work(connection: libvirt.virConnect) -> None:
        pool = connection.storagePoolDefineXML(guests.pool_definition(host))
        pool.create()
        cast("_Autostarted", pool).setAutostart(1)
        cast("_NetworkKeeper", connection).networkDefineXML(guests.network_definition(number))
        for plan in plans:
            connection.defineXML(guests.definition(plan, host, lab_folder, acceleration))

    with lane_to(host) as lane:
        lane.run(work, timeout_s=_DEFINE_TIMEOUT_S)


def start_daemon(host: HostLayout, account: Account) -> None:
    """Start the host's daemon, after ending what an earlier one may have left: itself if it hangs, its QEMUs."""
    daemon.cut_power(host)
    daemon.start(host, account)


def start_pools(host: HostLayout) -> None:
    """Start the pools that are defined and do not run."""

    def work(connection: libvirt.virConnect) -> None:
        for pool in connection.listAllStoragePools():
            if not pool.isActive():
                pool.create()

    with lane_to(host) as lane:
        lane.run(work)


def start_guests(wanted: Sequence[tuple[HostLayout, str]], tell: Tell) -> None:
    """Start guests and wait until each has come up, a few at a time."""
    with ThreadPoolExecutor(BOOTS_AT_ONCE, thread_name_prefix="lab-boot") as workers:
        for started in as_completed([workers.submit(_start_guest, host, name) for host, name in wanted]):
            name, seconds = started.result()
            tell(f"{name} is up after {seconds:.1f} s.")


def _start_guest(host: HostLayout, name: str) -> tuple[str, float]:
    began = time.monotonic()

    def work(connection: libvirt.virConnect) -> str:
        domain = connection.lookupByName(name)
        if not domain.isActive():
            domain.create()
        return domain.UUIDString()

    with lane_to(host) as lane:
        uuid = lane.run(work, timeout_s=_DEFINE_TIMEOUT_S)
        wait_until_up(lane, uuid)
    return name, time.monotonic() - began


def wait_until_up(lane: HostLane, uuid: str) -> None:
    """Wait until a guest answers: through its agent, or on its console where it has none."""

    def has_agent_channel(connection: libvirt.virConnect) -> bool:
        root = ElementTree.fromstring(connection.lookupByUUIDString(uuid).XMLDesc())  # noqa: S314 - libvirt's own XML
        return any(target.get("name") == AGENT_CHANNEL for target in root.iterfind("devices/channel/target"))

    if lane.run(has_agent_channel):
        agent.wait_until_answering(lane, uuid, timeout_s=_BOOT_TIMEOUT_S)
    else:
        console.ask_status(lane, uuid, timeout_s=_BOOT_TIMEOUT_S)
