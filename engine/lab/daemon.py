"""One practice host: a session-mode libvirtd with folders and a socket of its own.

Start: write its configuration, start the program in a session of its own, note its pid, wait until it answers.
Stop: SIGTERM takes half a minute while a VM runs (libvirt 9.0 tries to reach a session bus), so VMs are ended first;
whoever cannot wait uses `cut_power`, which kills the daemon and its QEMU processes as a power failure would.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from engine.errors import MissingPackage, NewhopeError
from engine.hosts import HostLane, HostUnreachable
from engine.lab import processes
from engine.lab.account import Account
from engine.lab.layout import HostLayout
from engine.settings import Host

_START_TIMEOUT_S = 30.0
_POLL_S = 0.05

_LIBVIRTD_CONF = """\
# Written by newhope: a practice host. Nothing but its own Unix socket leads here.
listen_tls = 0
listen_tcp = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
log_level = 3
"""

# Without this, libvirtd would start a virtlogd that outlives it and the lab.
_QEMU_CONF = """\
stdio_handler = "file"
"""


class HostDidNotStart(NewhopeError):
    """A practice host's daemon ended or stayed silent."""


def start(host: HostLayout, account: Account) -> None:
    """Start the host's daemon and wait until it answers. Does nothing if it runs."""
    if running(host) is not None:
        return
    program = _libvirtd()
    remove_runtime_files(host)
    _write_configuration(host, account)
    with host.log.open("ab") as log:
        daemon = subprocess.Popen(
            [program, "--config", host.configuration / "libvirt" / "libvirtd.conf"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(host),
            start_new_session=True,
            **account.identity(),
        )
    process = processes.mark(daemon.pid)
    if process is not None:
        processes.write_mark(host.daemon_mark, process)
    _wait_until_it_answers(host, daemon)


def running(host: HostLayout) -> processes.ProcessMark | None:
    """The host's daemon, if it runs."""
    return processes.read_mark(host.daemon_mark)


def qemu_processes(host: HostLayout) -> tuple[processes.ProcessMark, ...]:
    """QEMU processes of this host, whether its daemon knows of them or not."""
    names = (os.fsencode(host.folder) + b"/", os.fsencode(host.short) + b"/")
    return processes.processes_of(names, program="qemu-")


def cut_power(host: HostLayout) -> None:
    """Kill daemon and QEMU processes at once and take the socket away."""
    names = (os.fsencode(host.folder) + b"/", os.fsencode(host.short) + b"/")
    # The daemon first: it would otherwise see its guests die one by one, which a power cut never shows.
    daemon = running(host)
    if daemon is not None:
        processes.kill([daemon])
    for program in ("libvirtd", "qemu-", "dnsmasq", "swtpm", "virtlog"):
        processes.kill(processes.processes_of(names, program=program))
    remove_runtime_files(host)
    host.daemon_mark.unlink(missing_ok=True)


def stop(host: HostLayout, *, timeout_s: float = 5.0) -> None:
    """End the host's daemon; its VMs should be off by now, whatever is left is killed."""
    daemon = running(host)
    if daemon is not None and not qemu_processes(host):
        processes.send(daemon, signal.SIGTERM)
        processes.wait_until_gone([daemon], timeout_s=timeout_s)
    cut_power(host)


def remove_runtime_files(host: HostLayout) -> None:
    """Remove sockets, pid and status files: a dead QEMU's status file makes libvirtd look for it at its start."""
    if host.folder.exists():
        shutil.rmtree(host.folder / "run", ignore_errors=True)


def _wait_until_it_answers(host: HostLayout, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    lane = HostLane(Host(name=host.name, uri=host.uri))
    try:
        while time.monotonic() < deadline:
            if daemon.poll() is not None:
                raise HostDidNotStart(
                    f"The daemon of practice host {host.name} ended at once: {_last_line(host.log)}",
                    next_step=f"Read {host.log}; `newhope lab reset` starts afresh.",
                )
            if host.socket.exists() and _answers(lane):
                return
            time.sleep(_POLL_S)
    finally:
        lane.close()
    raise HostDidNotStart(
        f"The daemon of practice host {host.name} did not answer within {_START_TIMEOUT_S:.0f} s.",
        next_step=f"Read {host.log}; `newhope lab reset` starts afresh.",
    )


def _answers(lane: HostLane) -> bool:
    try:
        lane.run(lambda connection: connection.getLibVersion(), timeout_s=_START_TIMEOUT_S)
    except HostUnreachable:
        lane.forget_failure()
        return False
    return True


def _write_configuration(host: HostLayout, account: Account) -> None:
    account.folder(host.folder, 0o711)
    for name in ("c", "c/libvirt", "d", "k", "home", "run"):
        account.folder(host.folder / name, 0o700)
    for file, text in (
        ("libvirtd.conf", f'{_LIBVIRTD_CONF}host_uuid = "{_host_uuid(host)}"\n'),
        ("qemu.conf", _QEMU_CONF),
    ):
        path = host.folder / "c" / "libvirt" / file
        path.write_text(text)
        account.own(path)


def _host_uuid(host: HostLayout) -> uuid.UUID:
    # All hosts of a lab are one machine, and libvirt migrates nothing to a host with the same UUID.
    return uuid.uuid5(uuid.NAMESPACE_URL, f"newhope-lab-host:{host.folder}")


def _environment(host: HostLayout) -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(host.folder / "home"),
        "XDG_CONFIG_HOME": str(host.configuration),
        "XDG_DATA_HOME": str(host.short / "d"),
        "XDG_CACHE_HOME": str(host.short / "k"),
        "XDG_RUNTIME_DIR": str(host.runtime),
    }


def _libvirtd() -> str:
    program = shutil.which("libvirtd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise MissingPackage(
            "The practice hosts need libvirtd, which is not installed.",
            next_step="Install it: `apt-get install libvirt-daemon` on Debian and Ubuntu, "
            "`dnf install libvirt-daemon libvirt-daemon-driver-qemu` on Fedora.",
        )
    return program


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
