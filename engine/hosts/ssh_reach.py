"""The way to a host over SSH: one connection for control, and one of its own for every stream of bulk data.

1. The first connection logs in and asks one question (`ssh_hello`): is there a shell, where are this user's folders,
   which sockets of libvirt are there and may they be used, which of QEMU's tools.
2. libvirt's socket is forwarded through it, and libvirt connects to the forward as if the daemon were here. (libvirt's
   own SSH transport needs a helper on the host, and with `proxy=native` it takes no notice of `socket=`: it ends at
   another daemon.)
3. Whatever reads or writes disks gets a connection, and so a process and a TCP stream, of its own: otherwise libvirt's
   keepalive would wait behind disk blocks on a slow link, and one process's CPU would be all there is.
4. A connection that broke is opened anew by the next question. What went through it is lost, and says so.

Programs that serve (`serve`) are tied to this process across the link: they end when their standard input does, and
also when nothing has come through it for a minute, for a server that never learns of a cut cable keeps its end open.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from engine.errors import ExitCode, NewhopeError
from engine.hosts import ssh_hello
from engine.hosts.errors import HostUnreachable, unreachable
from engine.hosts.files_of_host import HostFiles, NoFiles
from engine.hosts.files_over_ssh import FilesOverSsh, missing_on
from engine.hosts.model import Way
from engine.hosts.reach import STOP_TIMEOUT_S, LentServer, Offer, RunningServer
from engine.hosts.ssh_connection import SshConnection
from engine.hosts.ssh_hello import Login
from engine.hosts.ssh_login import SshLogin, ssh_login
from engine.hosts.ssh_offer import SshOffer
from engine.nbd import UnixAddress
from engine.settings.model import Host

HELLO_TIMEOUT_S = 15.0
HEARTBEAT_S = 10.0
SILENCE_S = 60

_REFUSED = "open failed: connect failed"
_NOT_FOUND = 127
_SSH_FAILED = 255

_TIED = f"""\
umask 077
exec 3<&0
"$@" </dev/null 3<&- & served=$!
(while [ -n "$(timeout {SILENCE_S} head -c 1 <&3)" ]; do :; done; kill $served) >/dev/null 2>&1 & keeper=$!
wait $served; status=$?
kill $keeper 2>/dev/null
exit $status
"""


class ForwardingForbidden(NewhopeError):
    """The host's SSH server lets us in, but forwards no Unix sockets."""

    exit_code = ExitCode.PREFLIGHT


class SshReach:
    """See `reach.Reach`. `_lock` guards the connections, and is held while one is opened: nobody opens two."""

    open_timeout_s = 25.0
    local = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ssh: SshLogin = ssh_login(host)
        self._lock = threading.RLock()
        self._main: SshConnection | None = None
        self._login: Login | None = None
        self._lent: dict[Path, tuple[SshConnection, Path]] = {}
        self._spare: SshConnection | None = None

    @property
    def files(self) -> HostFiles:
        """See Reach."""
        login = self.login()
        if not login.has_shell:
            return NoFiles(self._host.name, "its SSH login has no shell")
        return FilesOverSsh(self._host.name, login, self.connection)

    def way(self) -> Way:
        """See Reach."""
        return Way.SSH if self.login().has_shell else Way.SSH_WITHOUT_SHELL

    def connection(self) -> SshConnection:
        """The connection for control, opened anew if it broke. Raises HostUnreachable."""
        with self._lock:
            if self._main is not None and not self._main.alive:
                self._main.close()
                self._main = None
            if self._main is None:
                self._main = self._open()
                self._login = None
            return self._main

    def login(self) -> Login:
        """What the host says of our login; asked once a connection. Raises HostUnreachable."""
        with self._lock:
            connection = self.connection()
            if self._login is None:
                self._login = self._ask(connection)
            return self._login

    def connection_uri(self) -> str:
        """See Reach."""
        with self._lock:
            socket = self._socket(self.login())
            here = self.connection().forward(socket)
        return f"qemu+unix:///{'session' if self._ssh.session else 'system'}?socket={quote(str(here))}"

    def failure(self, text: str) -> HostUnreachable:
        """See Reach."""
        with self._lock:
            connection = self._main
        if connection is None:
            return unreachable(self._host.name, text)
        if not connection.alive:
            return connection.broken()
        if _REFUSED not in connection.complaints():
            return unreachable(self._host.name, text)
        socket = self._socket(self.login())
        if not self.files.reachable:
            return HostUnreachable(
                self._host.name,
                f"its SSH server does not lead to the socket {socket}",
                next_step="Check that libvirt's daemon runs there, and that sshd_config has AllowStreamLocalForwarding "
                "yes; a login with a shell would tell which.",
            )
        self._raise_if_forbidden(socket)
        return unreachable(self._host.name, f"Failed to connect socket to '{socket}': Connection refused")

    def lend(self, listening: Path) -> LentServer:
        """See Reach."""
        with self._lock:
            if listening not in self._lent:
                connection = self._ready_one()
                self._lent[listening] = (connection, connection.forward(listening))
            return LentServer(listening, UnixAddress(str(self._lent[listening][1])))

    def get_ready(self) -> None:
        """See Reach: logging in takes a few times the way there and back."""
        with self._lock:
            if self._spare is None:
                self._spare = self._open()

    def take_back(self, listening: Path) -> None:
        """See Reach."""
        with self._lock:
            lent = self._lent.pop(listening, None)
        if lent is not None:
            lent[0].close()

    def why_closed(self, listening: Path) -> str:
        """See Reach."""
        with self._lock:
            lent = self._lent.get(listening)
        if lent is None or not lent[0].alive:
            return "the SSH connection broke"
        self._raise_if_forbidden(listening)
        return "the user of its uri may not use it"

    def _ready_one(self) -> SshConnection:
        spare, self._spare = self._spare, None
        if spare is not None and not spare.alive:
            spare.close()
            spare = None
        return spare or self._open()

    @contextmanager
    def serve(self, command: Sequence[str], listening: Path, complaints: IO[bytes]) -> Generator[RunningServer]:
        """See Reach."""
        with self._lock:
            connection = self._ready_one()
        try:
            here = connection.forward(listening)
            process = connection.start(["sh", "-c", _TIED, "sh", *command], complaints=complaints)
            server = _RemoteServer(self._host.name, connection, process, UnixAddress(str(here)), command[0])
            try:
                yield server
            finally:
                server.stop()
                with suppress(HostUnreachable):
                    self.files.remove((listening,))
        finally:
            connection.close()

    def offer(self, there: Path, owner: tuple[int, int] | None) -> Offer:
        """See Reach."""
        return SshOffer(self._host.name, self._ssh, there, owner)

    def close(self) -> None:
        """See Reach."""
        with self._lock:
            connections = [self._main, self._spare, *(connection for connection, _ in self._lent.values())]
            self._main, self._spare, self._login = None, None, None
            self._lent.clear()
        for connection in connections:
            if connection is not None:
                connection.close()

    def _raise_if_forbidden(self, socket: Path) -> None:
        """Raise ForwardingForbidden if somebody listens on a socket that our login may use, and yet it leads nowhere.

        The server gives the same answer to all three (OpenSSH `server_request_direct_streamlocal`).
        """
        if not self.files.reachable:
            return
        test = 'grep -qF -- " $1" /proc/net/unix && [ -w "$1" ]'
        if self.files.run(["sh", "-c", test, "sh", str(socket)]).exit_status == 0:
            raise ForwardingForbidden(
                f"The SSH server of host {self._host.name} forwards no Unix sockets, so nothing on it can be reached.",
                next_step="Set AllowStreamLocalForwarding yes (and not DisableForwarding) in its sshd_config, and look "
                'for "restrict" before the key in authorized_keys.',
            )

    def _open(self) -> SshConnection:
        connection = SshConnection(self._host.name, self._ssh)
        connection.open()
        return connection

    def _ask(self, connection: SshConnection) -> Login:
        mode = "session" if self._ssh.session else "system"
        try:
            said = connection.run(
                ["sh", "-c", ssh_hello.SCRIPT, "sh", mode, *self._ssh.sockets], timeout_s=HELLO_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise unreachable(self._host.name, f"its shell said nothing for {HELLO_TIMEOUT_S:.0f} s") from None
        return ssh_hello.read_login(said.stdout.decode(errors="replace"))

    def _socket(self, login: Login) -> Path:
        """libvirt's socket on the host. Raises HostUnreachable."""
        if login.usable_sockets:
            return login.usable_sockets[0]
        own = self._ssh.session and not self._ssh.sockets[0].startswith("/")
        # libvirt's own name for it is the last of them; the folder does not matter to an absolute one.
        likely = Path(ssh_hello.SYSTEM_RUNTIME, self._ssh.sockets[-1])
        if not login.has_shell and not own:
            # Nobody can look.
            return likely
        if login.forbidden_sockets:
            likely, why = login.forbidden_sockets[0], "Permission denied"
        elif own:
            raise HostUnreachable(
                self._host.name,
                "no libvirt daemon of the user of its uri runs there",
                next_step="Start it there (libvirtd -d, or virsh -c qemu:///session version), or name its socket in "
                "the uri: ?socket=/path/libvirt-sock",
            )
        else:
            why = "No such file or directory"
        raise unreachable(self._host.name, f"Failed to connect socket to '{likely}': {why}")


class _RemoteServer:
    """A program that serves on the host, as long as its standard input is fed from here."""

    look_every_s = 0.05

    def __init__(
        self,
        host: str,
        connection: SshConnection,
        process: subprocess.Popen[bytes],
        address: UnixAddress,
        program: str,
    ) -> None:
        self._host = host
        self._connection = connection
        self._process = process
        self._program = program
        self._stopping = threading.Event()
        self.address = address
        threading.Thread(target=self._feed, name=f"feeds {program}", daemon=True).start()

    def poll(self) -> int | None:
        """See RunningServer."""
        status = self._process.poll()
        if status == _NOT_FOUND:
            raise missing_on(self._host, self._program)
        if status == _SSH_FAILED and not self._connection.alive:
            raise self._connection.broken()
        return status

    def stop(self) -> None:
        """End the program so that it writes out and closes what it has open, and wait until it has."""
        self._stopping.set()
        assert self._process.stdin is not None  # noqa: S101 - asked for
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _feed(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - asked for
        # A pipe that is closed meanwhile is the end of the program, which is told where it matters.
        with suppress(OSError, ValueError):
            while not self._stopping.is_set():
                stdin.write(b".")
                stdin.flush()
                self._stopping.wait(HEARTBEAT_S)
