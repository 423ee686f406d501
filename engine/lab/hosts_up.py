"""Making one practice host: folders, disks, daemon, pool, network, definitions; and starting its guests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol, cast

import libvirt

from engine.lab import daemon, disks, guests
from engine.lab.acceleration import Acceleration
from engine.lab.account import Account
from engine.lab.golden import BootFiles
from engine.lab.guest_parts import Tell
from engine.lab.guests import GuestPlan
from engine.lab.layout import HostLayout
from engine.lab.libvirt_calls import (
    GuestSilent,
    connection,
    console_answers,
    has_agent_channel,
    wait_for_agent,
)

_BOOT_TIMEOUT_S = 120.0
BOOTS_AT_ONCE = 2
"""More would not be faster under emulation, and each would seem slow."""


class _Autostarted(Protocol):
    def setAutostart(self, autostart: int) -> int: ...


class _NetworkKeeper(Protocol):
    def networkDefineXML(self, xml: str) -> object: ...


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
    with connection(host.uri) as opened:
        pool = opened.storagePoolDefineXML(guests.pool_definition(host), 0)
        pool.create(0)
        cast("_Autostarted", pool).setAutostart(1)
        cast("_NetworkKeeper", opened).networkDefineXML(guests.network_definition(number))
        for plan in plans:
            opened.defineXML(guests.definition(plan, host, lab_folder, acceleration))


def start_daemon(host: HostLayout, account: Account) -> None:
    """Start the host's daemon, after ending what an earlier one may have left."""
    if daemon.running(host) is None:
        daemon.cut_power(host)
        daemon.start(host, account)


def start_pools(host: HostLayout) -> None:
    """Start the pools that are defined and do not run."""
    with connection(host.uri) as opened:
        for pool in opened.listAllStoragePools():
            if not pool.isActive():
                pool.create(0)


def start_guests(wanted: Sequence[tuple[HostLayout, str]], tell: Tell) -> None:
    """Start guests and wait until each has come up, a few at a time."""
    with ThreadPoolExecutor(BOOTS_AT_ONCE, thread_name_prefix="lab-boot") as workers:
        for started in as_completed([workers.submit(_start_guest, host, name) for host, name in wanted]):
            name, seconds = started.result()
            tell(f"{name} is up after {seconds:.1f} s.")


def _start_guest(host: HostLayout, name: str) -> tuple[str, float]:
    began = time.monotonic()
    with connection(host.uri) as opened:
        domain = opened.lookupByName(name)
        if not domain.isActive():
            domain.create()
        wait_until_up(opened, domain)
    return name, time.monotonic() - began


def wait_until_up(opened: libvirt.virConnect, domain: libvirt.virDomain) -> None:
    """Wait until a guest answers: through its agent, or on its console where it has none."""
    if has_agent_channel(domain):
        wait_for_agent(domain, timeout_s=_BOOT_TIMEOUT_S)
    elif console_answers(opened, domain, timeout_s=_BOOT_TIMEOUT_S) is None:
        raise GuestSilent(
            f"Practice guest {domain.name()} did not answer on its console within {_BOOT_TIMEOUT_S:.0f} s.",
            next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
        )
