"""A socket on a host, reached over SSH, behind which a server of this machine answers.

A connection of its own carries it (`ssh -R`): what a guest reads from its disks does not wait behind anything else. The
host's end is made anew whenever the connection broke, and whoever is to use it owns it each time.

What an SSH server refuses here is told by its socket: where a file can be made in its folder, and no socket was, the
server forwards none (sshd_config(5) AllowStreamLocalForwarding, sshd(8) "restrict" of authorized_keys).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.errors import ExitCode, NewhopeError
from engine.hosts.ssh_connection import SshConnection, private_folder
from engine.hosts.ssh_login import SshLogin

_TIMEOUT_S = 30.0


class OfferRefused(NewhopeError):
    """The host lets in whoever asks, but opens no socket for what is served here."""

    exit_code = ExitCode.PREFLIGHT


class SshOffer:
    """See `reach.Offer`. One thread uses it."""

    def __init__(self, host: str, login: SshLogin, there: Path, owner: tuple[int, int] | None) -> None:
        self._host = host
        self._login = login
        self._there = there
        self._owner = owner
        self._folder = private_folder()
        self._connection: SshConnection | None = None
        self.listening = self._folder / "offered.sock"

    def renew(self) -> bool:
        """See Offer."""
        if self._connection is not None and self._connection.alive:
            return False
        self._drop()
        connection = SshConnection(self._host, self._login)
        connection.open()
        try:
            self._open_socket(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return True

    def close(self) -> None:
        """See Offer."""
        self._drop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open_socket(self, connection: SshConnection) -> None:
        # A server that never learns of a cut cable keeps the socket of the last connection, whose name must be free.
        self._run(connection, "rm", "-f", "--", str(self._there))
        refused = connection.forward_back(self._there, self.listening)
        if refused is not None:
            raise self._refusal(connection, refused)
        if self._owner is not None:
            self._run(connection, "chown", "--", "{}:{}".format(*self._owner), str(self._there))

    def _run(self, connection: SshConnection, *command: str) -> None:
        done = connection.run(command, timeout_s=_TIMEOUT_S)
        if done.returncode != 0:
            raise self._refusal(connection, done.stderr.decode(errors="replace"))

    def _refusal(self, connection: SshConnection, said: str) -> NewhopeError:
        if not connection.alive:
            return connection.broken(said)
        folder = self._there.parent
        test = connection.run(["test", "-w", str(folder)], timeout_s=_TIMEOUT_S)
        if test.returncode != 0:
            return OfferRefused(
                f"The user of the uri of {self._host} can make no socket in {folder} there.",
                next_step=f"let that user write to it, or set another folder, scratch, in [hosts.{self._host}] of "
                "newhope.toml; or restore without --instant.",
            )
        return OfferRefused(
            f"The SSH server of host {self._host} opens no socket there for what is served here"
            f" ({' '.join(said.split()).rstrip('.') or 'it does not say why'}).",
            next_step="set AllowStreamLocalForwarding yes (and not DisableForwarding) in its sshd_config, look for "
            '"restrict" before the key in authorized_keys; or restore without --instant.',
        )
