"""Real SSH servers on loopback, for hosts that are reached over the network: `sshd` with keys and settings of its own.

The login is the lab's user: for root another one than the caller, as on a real host. That one's shell may be `nologin`
here, so its server sees a password file of its own, in a mount namespace that ends with it. Nothing of the machine's
own SSH is read or changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from engine.lab.account import lab_account
from engine.settings import Host

LOGIN = "anna"
"""Name of the second user, where the caller is root."""

_SETTINGS = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding yes
{more}
"""


class Sshd:
    """One server, the key that opens it, and the client's settings that name both."""

    def __init__(self, folder: Path, name: str, more: str = "") -> None:
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("needs sshd, of openssh-server")
        self._program = program
        self.name = name
        self.account = lab_account()
        self.folder = self.account.folder(folder / name, 0o711)
        self.port = free_port()
        self.key = folder / f"{name}.key"
        self.config = folder / f"{name}.ssh_config"
        self._process: subprocess.Popen[bytes] | None = None
        for key in (self.folder / "host_key", self.key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
            self.account.own(key if key.parent == self.folder else key.with_suffix(".key.pub"))
        self.allow()
        (self.folder / "sshd_config").write_text(_SETTINGS.format(port=self.port, folder=self.folder, more=more))
        self._write_config()

    def allow(self, options: str = "") -> None:
        """Let the key in, with options of authorized_keys(5)."""
        public = self.key.with_suffix(".key.pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}".lstrip())

    def behind(self, gate: Sshd) -> None:
        """Have clients come through another server."""
        self._write_config(f" ProxyJump {gate.name}\n{gate.config.read_text()}")

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [self._program, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if not self.account.is_caller:
            entries = [
                line for line in Path("/etc/passwd").read_text().splitlines() if f":{self.account.uid}:" not in line
            ]
            home = self.account.folder(self.folder / "home", 0o700)
            entries.append(f"{LOGIN}:none:{self.account.uid}:{self.account.gid}::{home}:/bin/sh")
            users = self.folder / "passwd"
            users.write_text("\n".join(entries) + "\n")
            become = f'exec setpriv --reuid {self.account.uid} --regid {self.account.gid} --clear-groups "$@"'
            mount = f"mount --bind {users} /etc/passwd && {become}"
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 30
        while not listens(self.port):
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and every connection that it has."""
        if self._process is not None:
            connections = self.connections()
            self._process.kill()
            self._process.wait()
            _kill(connections)
            self._process = None

    def cut(self) -> None:
        """Break every connection; the server goes on."""
        _kill(self.connections())

    def connections(self) -> list[int]:
        """The server's processes for each connection."""
        if self._process is None:
            return []
        return [pid for pid in descendants(self._process.pid) if _name(pid) == "sshd"]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def uri(self, path: str) -> str:
        return f"qemu+ssh://{self.name}{path}"

    def _write_config(self, more: str = "") -> None:
        known = self.folder.parent / f"{self.name}.known_hosts"
        public = (self.folder / "host_key.pub").read_text()
        known.write_text(f"[127.0.0.1]:{self.port} {public}")
        user = pwd.getpwuid(self.account.uid).pw_name if self.account.is_caller else LOGIN
        self.config.write_text(
            f"Host {self.name}\n HostName 127.0.0.1\n Port {self.port}\n User {user}\n IdentityFile {self.key}\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {known}\n StrictHostKeyChecking yes\n{more}"
        )


def host_at(server: Sshd, where: str = "/session?socket=/nonexistent/libvirt-sock", **more: object) -> Host:
    """A host of the settings that lies behind a server."""
    return Host(**({"name": "far", "uri": server.uri(where), "ssh_config": server.config} | more))  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """Every process below another one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found[1:]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
