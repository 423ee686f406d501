"""A lab as a whole: made, found again, broken, healed, removed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

from msgspec import structs

from engine.errors import NotFound
from engine.hosts import HostLane, HostUnreachable, agent, find_vm, model, take_snapshot
from engine.lab import acceleration, daemon, golden, hosts_up, lab_settings, needs, processes, record, status
from engine.lab.account import lab_account
from engine.lab.guest_parts import Tell
from engine.lab.guests import GUESTS, HOSTS, GuestPlan, guest_uuid
from engine.lab.layout import HostLayout, Layout, default_folder, layout_of, make_link
from engine.lab.record import Record
from engine.settings import Settings, load

_JOB_END_TIMEOUT_S = 5.0


def _say_nothing(_text: str) -> None:
    return


class Lab:
    """A lab in its folder. Holds nothing open: every call looks at the folder and asks the hosts anew."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @classmethod
    def up(
        cls,
        folder: Path | None = None,
        *,
        hosts: Sequence[str] = HOSTS,
        guests: Sequence[str] | None = None,
        running: Sequence[str] | None = None,
        tell: Tell = _say_nothing,
    ) -> Self:
        """Make the lab in `folder`, or bring back whatever of it does not run.

        `hosts` and `guests` choose a part of the practice hosts and guests for a new lab; by default all of them.
        Of the guests that run in a lab only those in `running` are started; another `up` starts the others.
        Raises `Conflict` while another process changes the same lab, `MissingPackage` if programs are missing.
        """
        layout = layout_of(folder or default_folder())
        record.require_usable(layout)
        lab_account().require_reach(layout.folder.parent)
        with record.exclusive(layout):
            known = record.read(layout)
            if known is not None and known.complete:
                _bring_back(layout, known, running, tell)
            else:
                needs.require()
                _empty(layout)
                _make(layout, _chosen(hosts, guests), tuple(hosts), running, tell)
        return cls(layout)

    @classmethod
    def open(cls, folder: Path | None = None) -> Self:
        """The lab in `folder`, as it is; raises `NotFound` if there is none."""
        layout = layout_of(folder or default_folder())
        record.require(layout)
        return cls(layout)

    @classmethod
    def remove(cls, folder: Path | None = None) -> None:
        """End and remove the lab in `folder`, also one that was never finished; raises `NotFound` if there is none."""
        layout = layout_of(folder or default_folder())
        if not layout.record_file.exists():
            raise NotFound(f"There is no lab in {layout.folder}.", next_step="Nothing is left to remove.")
        record.require_usable(layout)
        with record.exclusive(layout):
            _empty(layout)
            shutil.rmtree(layout.folder)
        if layout.folder == default_folder():
            # Made on the way to the default folder; kept if anything else of newhope is in it.
            with suppress(OSError):
                layout.folder.parent.rmdir()

    @property
    def folder(self) -> Path:
        """The one folder that everything of the lab lies in."""
        return self.layout.folder

    @property
    def settings_file(self) -> Path:
        """The lab's `newhope.toml`."""
        return self.layout.settings_file

    @property
    def settings(self) -> Settings:
        """The lab's settings, read from its file."""
        return load(self.settings_file)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the lab's hosts."""
        return record.require(self.layout).hosts

    @property
    def guests(self) -> tuple[GuestPlan, ...]:
        """The practice guests that the lab was made with."""
        return _plans(record.require(self.layout))

    def uri(self, host: str) -> str:
        """The libvirt URI of a host."""
        return self._host(host).uri

    def uuid(self, guest: str) -> str:
        """The UUID of a practice guest."""
        return guest_uuid(self.folder, guest)

    def status(self) -> status.LabStatus:
        """Look at every host and VM."""
        known = record.require(self.layout)
        with ThreadPoolExecutor(len(known.hosts)) as workers:
            rows = tuple(workers.map(status.host_status, [self.layout.host(name) for name in known.hosts]))
        return status.LabStatus(
            folder=str(self.folder),
            settings_file=str(self.settings_file),
            acceleration=known.acceleration.value,
            hosts=rows,
        )

    def run_in_guest(
        self, host: str, vm: str, command: Sequence[str], *, timeout_s: float = 30.0
    ) -> agent.CommandResult:
        """Run a command in a VM through its agent; `vm` is a name or UUID, restored VMs included."""
        with hosts_up.lane_to(self._host(host)) as lane:
            return agent.run(lane, _find(lane, vm).uuid, command, timeout_s=timeout_s)

    def wait_until_up(self, host: str, vm: str) -> None:
        """Wait until a VM that was started answers through its agent, or on its console if it has none."""
        with hosts_up.lane_to(self._host(host)) as lane:
            hosts_up.wait_until_up(lane, _find(lane, vm).uuid)

    def break_host(self, name: str) -> None:
        """Cut a host's power: daemon and VMs die at once, the socket is gone. Breaking it twice is harmless."""
        host = self._host(name)
        with record.exclusive(self.layout):
            known = record.require(self.layout)
            running = known.broken.get(name) or _running_guests(host)
            daemon.cut_power(host)
            record.write(self.layout, structs.replace(known, broken={**known.broken, name: running}))

    def heal_host(self, name: str, *, tell: Tell = _say_nothing) -> None:
        """Start a host's daemon again, and the VMs that ran there when it was broken."""
        host = self._host(name)
        with record.exclusive(self.layout):
            _heal(self.layout, [host.name], tell)

    def down(self) -> None:
        """End every process of the lab and remove its folder."""
        self.remove(self.folder)

    def _host(self, name: str) -> HostLayout:
        known = record.require(self.layout).hosts
        if name not in known:
            raise NotFound(
                f"The lab in {self.folder} has no host {name}.", next_step=f"Its hosts are {', '.join(known)}."
            )
        return self.layout.host(name)


def _chosen(hosts: Sequence[str], guests: Sequence[str] | None) -> tuple[GuestPlan, ...]:
    return tuple(plan for plan in GUESTS if plan.host in hosts and (guests is None or plan.name in guests))


def _plans(known: Record) -> tuple[GuestPlan, ...]:
    return tuple(plan for plan in GUESTS if plan.name in known.guests)


def _make(
    layout: Layout,
    plans: tuple[GuestPlan, ...],
    host_names: tuple[str, ...],
    running: Sequence[str] | None,
    tell: Tell,
) -> None:
    account = lab_account()
    kind = acceleration.available(account)
    how = "with KVM" if kind is acceleration.Acceleration.KVM else "emulated (no usable /dev/kvm)"
    tell(f"Making practice hosts {', '.join(host_names)} in {layout.folder}; guests run {how}, as {account.name}.")
    layout.hosts.mkdir()
    for folder in (layout.folder, layout.hosts):
        folder.chmod(0o755)
    account.require_reach(layout.hosts)
    made = Record(hosts=host_names, guests=tuple(plan.name for plan in plans), acceleration=kind, complete=False)
    record.write(layout, made)
    boot = golden.boot_files(tell)
    hosts = [layout.host(name) for name in host_names]

    def make_host(number: int, host: HostLayout) -> None:
        own = [plan for plan in plans if plan.host == host.name]
        hosts_up.prepare(host, account, boot, own)
        hosts_up.start_daemon(host, account)
        hosts_up.define(host, number, layout.folder, kind, own)

    for host in hosts:
        host.folder.mkdir(exist_ok=True)
    make_link(layout)
    with ThreadPoolExecutor(len(hosts), thread_name_prefix="lab-host") as workers:
        list(workers.map(make_host, range(len(hosts)), hosts))
    tell(f"{len(hosts)} libvirt daemons answer; their guests boot, {hosts_up.BOOTS_AT_ONCE} at a time.")
    # Firmware takes its time: who boots longest starts first.
    in_order = sorted(_to_start(plans, running), key=lambda plan: plan.firmware != "efi")
    hosts_up.start_guests([(layout.host(plan.host), plan.name) for plan in in_order], tell)
    lab_settings.write(layout, host_names)
    record.write(layout, structs.replace(made, complete=True))


def _to_start(plans: Sequence[GuestPlan], running: Sequence[str] | None) -> list[GuestPlan]:
    return [plan for plan in plans if plan.running and (running is None or plan.name in running)]


def _bring_back(layout: Layout, known: Record, running: Sequence[str] | None, tell: Tell) -> None:
    make_link(layout)
    dead = [name for name in known.hosts if not _is_well(layout.host(name))]
    if dead:
        tell(f"Bringing back {', '.join(dead)}.")
        _heal(layout, dead, tell)
    stopped = [
        (layout.host(plan.host), plan.name)
        for plan in _to_start(_plans(known), running)
        if plan.name not in _running_guests(layout.host(plan.host))
    ]
    hosts_up.start_guests(stopped, tell)
    lab_settings.write(layout, known.hosts)


def _heal(layout: Layout, names: Sequence[str], tell: Tell) -> None:
    account = lab_account()
    make_link(layout)
    known = record.require(layout)
    wanted: list[tuple[HostLayout, str]] = []
    for name in names:
        host = layout.host(name)
        if not _is_well(host):
            hosts_up.start_daemon(host, account)
        hosts_up.start_pools(host)
        planned = tuple(plan.name for plan in _plans(known) if plan.host == name and plan.running)
        wanted += [(host, vm) for vm in known.broken.get(name, planned)]
        tell(f"{name} answers again.")
    hosts_up.start_guests(wanted, tell)
    still_broken = {name: vms for name, vms in known.broken.items() if name not in names}
    record.write(layout, structs.replace(known, broken=still_broken))


def _is_well(host: HostLayout) -> bool:
    return status.host_status(host).state == "running"


def _running_guests(host: HostLayout) -> tuple[str, ...]:
    if daemon.running(host) is None:
        return ()
    with hosts_up.lane_to(host) as lane:
        vms = take_snapshot(lane).vms
    return tuple(vm.name for vm in vms if vm.state is not model.VmState.OFF)


def _find(lane: HostLane, vm: str) -> model.Vm:
    snapshot = take_snapshot(lane)
    if snapshot.reason is not None:
        raise HostUnreachable(lane.host.name, snapshot.reason, next_step=snapshot.next_step or "newhope lab status")
    return find_vm(snapshot, vm)


def _empty(layout: Layout) -> None:
    """End what runs and remove what lies there, but for the lock that the caller holds."""
    _end_jobs(layout)
    if layout.hosts.exists():
        for entry in layout.hosts.iterdir():
            daemon.cut_power(layout.host(entry.name))
    # Whatever names the lab and belongs to no host folder any more: a restore's qemu-nbd, a half-removed host.
    for program in ("libvirtd", "qemu-"):
        processes.kill(processes.processes_of(layout.names(), program=program))
    if layout.link.is_symlink():
        layout.link.unlink()
    # The record last: as long as it is there, a removal that was cut short can be tried again.
    entries = [entry for entry in layout.folder.iterdir() if entry.name != record.LOCK_NAME]
    for entry in sorted(entries, key=lambda entry: entry == layout.record_file):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _end_jobs(layout: Layout) -> None:
    # newhope's own detached jobs on this lab: asked first, because they clean up after themselves.
    jobs = processes.processes_of(layout.names(), program="python", argument="run-job")
    for job in jobs:
        processes.send(job, signal.SIGTERM)
    processes.kill(processes.wait_until_gone(jobs, timeout_s=_JOB_END_TIMEOUT_S))
