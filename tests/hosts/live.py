"""A practice VM as the functions of `hosts` take it: its lane, and itself as the inventory sees it now."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.hosts import HostLane, agent, take_snapshot
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.lab import Lab, daemon, processes
from engine.settings import Host
from tests.waiting import wait_for


def host_of(lab: Lab, name: str) -> Host:
    return next(host for host in lab.settings.hosts if host.name == name)


def vm_of(lane: HostLane, name: str) -> Vm:
    return next(vm for vm in take_snapshot(lane).vms if vm.name == name)


@contextmanager
def lane_to(lab: Lab, host: str) -> Iterator[HostLane]:
    lane = HostLane(host_of(lab, host))
    try:
        yield lane
    finally:
        lane.close()


@contextmanager
def lab_of_its_own(
    *,
    hosts: tuple[str, ...] = ("alderaan",),
    guests: tuple[str, ...] = ("web",),
    running: tuple[str, ...] | None = None,
) -> Iterator[Lab]:
    """A small lab that may be mistreated; of its guests those in `running` are started, or all that run in a lab."""
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield Lab.up(folder, hosts=hosts, guests=guests, running=running)
    finally:
        if (folder / "lab.json").exists():
            Lab.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def in_guest(lane: HostLane, vm: Vm, script: str, *, timeout_s: float = 240) -> str:
    """Run a shell script in the guest; what it wrote."""
    result = agent.run(lane, vm.uuid, ["/bin/sh", "-c", script], timeout_s=timeout_s)
    assert result.exit_code == 0, result
    return result.stdout.decode()


def restart_daemon(lab: Lab, name: str) -> None:
    """Kill a host's daemon and start it again as it was, while its VMs run on."""
    host = lab.layout.host(name)
    running = daemon.running(host)
    assert running is not None
    process = Path("/proc") / str(running.pid)
    command = process.joinpath("cmdline").read_text().rstrip("\0").split("\0")
    surroundings = dict(each.split("=", 1) for each in process.joinpath("environ").read_text().split("\0") if each)
    owner = process.stat()
    os.kill(running.pid, signal.SIGKILL)
    assert wait_for(lambda: daemon.running(host) is None)
    host.socket.unlink()

    with host.log.open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=surroundings,
            start_new_session=True,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
        )
    mark = processes.mark(started.pid)
    assert mark is not None
    processes.write_mark(host.daemon_mark, mark)
    assert wait_for(host.socket.exists)


def kill_qemu(lab: Lab, lane: HostLane, vm: Vm) -> None:
    """Kill a running VM's QEMU as the kernel would for want of memory; back when libvirt has noticed."""
    for pid in next(host for host in lab.status().hosts if host.name == vm.host).qemu_pids:
        if f"guest={vm.name},".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: vm_state(lane, vm.uuid) in (VmState.OFF, VmState.CRASHED))


def files_in(folder: Path | None) -> list[str]:
    assert folder is not None
    return sorted(path.name for path in folder.iterdir())


def copy_export(uri: str, into: Path) -> Path:
    """Read a whole NBD export with libnbd's own tool."""
    subprocess.run(["nbdcopy", uri, str(into)], check=True, capture_output=True, timeout=120)
    return into


def journal_lines(copied_disk: Path) -> list[str]:
    """The journal on a copy of a guest's ext4 disk, after what a reboot does first: replay the file system's log."""
    checked = subprocess.run(["e2fsck", "-fy", str(copied_disk)], capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout
    read = subprocess.run(
        ["debugfs", "-R", "cat /journal", str(copied_disk)], capture_output=True, text=True, check=True
    )
    return [line for line in read.stdout.splitlines() if line]
