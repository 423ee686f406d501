"""The way to a host's machine: how its libvirt, its files and its sockets are reached from here.

A lane has one (`lane.reach`), for as long as it lives. What runs on the host and listens on a Unix socket there (the
NBD server of a backup job, `qemu-nbd`) is spoken to at an address on this machine: `lend` makes one, `take_back` ends
it; `serve` starts such a program. The other way round, `offer` lets QEMU read there what a server of this machine has.

Here are the two ways that need no machinery: this machine itself, and libvirt's own transports, which bring a
connection and nothing else. `ssh_reach` is the third.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from msgspec import Struct

from engine.hosts import tied_process
from engine.hosts.backup_xml import TlsListener
from engine.hosts.errors import HostUnreachable, unreachable
from engine.hosts.files_of_host import FilesOutOfReach, HostFiles, LocalFiles, NoFiles
from engine.hosts.model import Way
from engine.nbd import Address, UnixAddress
from engine.settings.model import Host

STOP_TIMEOUT_S = 60.0


class LentServer(Struct, frozen=True):
    """Both ends of the way to an NBD server of the host."""

    listens: Path | TlsListener
    """Where it is to listen there."""
    address: Address
    """Where it is spoken to from here."""


class RunningServer(Protocol):
    """A program on the host that listens on a Unix socket until it is stopped."""

    @property
    def address(self) -> UnixAddress:
        """Where it is spoken to from here."""
        ...

    @property
    def look_every_s(self) -> float:
        """How often it may be asked whether it listens already."""
        ...

    def poll(self) -> int | None:
        """Its exit status, once it has ended. Raises HostUnreachable if the way to it is gone."""
        ...


class Offer(Protocol):
    """A socket on the host behind which a server of this machine answers, once it listens."""

    listening: Path
    """Where it is to listen on this machine."""

    def renew(self) -> bool:
        """Open the socket on the host, which the owner that was named may use; whether it was not open.

        To be called once the server listens, and every now and then: links break. Raises HostUnreachable, OfferRefused.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Reach(Protocol):
    """The way to one host. Any thread may use it."""

    open_timeout_s: float
    """How long opening a connection may take before the host counts as dead."""

    @property
    def local(self) -> bool:
        """Whether the host is this machine."""
        ...

    @property
    def files(self) -> HostFiles:
        """The host's files. Raises HostUnreachable."""
        ...

    def way(self) -> Way:
        """What kind of way it is. Raises HostUnreachable."""
        ...

    def connection_uri(self) -> str:
        """What libvirt is to open. Raises HostUnreachable."""
        ...

    def failure(self, text: str) -> HostUnreachable:
        """Why what `connection_uri` gave cannot be opened, or broke, from libvirt's words for it."""
        ...

    def lend(self, listening: Path) -> LentServer:
        """How a server of the host is to listen whose socket is named so, and where it is spoken to from here.

        Of a Unix socket it is the same again for the same path; it need not be there yet.
        Raises HostUnreachable, FilesOutOfReach.
        """
        ...

    def get_ready(self) -> None:
        """Do now whatever `lend` would take time for: when it is called, a guest may be frozen.

        Raises HostUnreachable.
        """
        ...

    def take_back(self, listening: Path) -> None:
        """End what `lend` began; what was not begun is fine."""
        ...

    def why_closed(self, listening: Path) -> str:
        """Why a socket that was lent lets nobody in, as the end of a sentence. Raises ForwardingForbidden."""
        ...

    def serve(
        self, command: Sequence[str], listening: Path, complaints: IO[bytes]
    ) -> AbstractContextManager[RunningServer]:
        """Run a program that listens on a Unix socket for the length of the context.

        What it prints to standard error goes to `complaints`. It ends with this process, however that ends.
        Raises HostUnreachable, FilesOutOfReach.
        """
        ...

    def offer(self, there: Path, owner: tuple[int, int] | None) -> Offer:
        """A socket for programs of the host, of that user and group (or ours), to a server of this machine.

        It lasts until it is closed, whatever becomes of this reach. Raises FilesOutOfReach.
        """
        ...

    def close(self) -> None:
        """End everything that was begun; it is begun anew by whoever asks again."""
        ...


class ThisMachine:
    """A host whose files and sockets are this machine's."""

    open_timeout_s = 8.0
    local = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self.files: HostFiles = LocalFiles()

    def way(self) -> Way:
        """See Reach."""
        return Way.HERE

    def connection_uri(self) -> str:
        """See Reach."""
        return self._host.uri

    def failure(self, text: str) -> HostUnreachable:
        """See Reach."""
        return unreachable(self._host.name, text)

    def lend(self, listening: Path) -> LentServer:
        """See Reach."""
        return LentServer(listening, UnixAddress(str(listening)))

    def get_ready(self) -> None:
        """It takes none."""

    def take_back(self, listening: Path) -> None:
        """See Reach."""

    def why_closed(self, listening: Path) -> str:
        """See Reach."""
        return "its server takes leave at once"

    @contextmanager
    def serve(self, command: Sequence[str], listening: Path, complaints: IO[bytes]) -> Generator[RunningServer]:
        """See Reach."""
        server = tied_process.start(command, stderr=complaints)
        try:
            yield _LocalServer(server, UnixAddress(str(listening)), command[0])
        finally:
            _stop(server)
            listening.unlink(missing_ok=True)

    def offer(self, there: Path, owner: tuple[int, int] | None) -> Offer:
        """See Reach."""
        return _LocalOffer(there, owner)

    def close(self) -> None:
        """Nothing was begun."""


HERE = ThisMachine(Host(name="this machine", uri="qemu:///session"))
"""For images that no host is asked about."""


class LibvirtAlone:
    """A host that libvirt reaches by itself (TLS, a program of the operator's): a connection, and nothing else."""

    open_timeout_s = 12.0
    local = False

    def __init__(self, host: Host, why_no_files: str) -> None:
        self._host = host
        self._why = why_no_files
        self.files: HostFiles = NoFiles(host.name, why_no_files)

    def way(self) -> Way:
        """See Reach."""
        return Way.LIBVIRT_ALONE

    def connection_uri(self) -> str:
        """See Reach."""
        return self._host.uri

    def failure(self, text: str) -> HostUnreachable:
        """See Reach."""
        return unreachable(self._host.name, text)

    def lend(self, listening: Path) -> LentServer:
        """See Reach."""
        raise self._refusal(f"reach the socket {listening}")

    def get_ready(self) -> None:
        """There is nothing to be done."""

    def take_back(self, listening: Path) -> None:
        """Nothing was lent."""

    def why_closed(self, listening: Path) -> str:
        """See Reach."""
        return self._why

    def serve(
        self, command: Sequence[str], listening: Path, complaints: IO[bytes]
    ) -> AbstractContextManager[RunningServer]:
        """See Reach."""
        raise self._refusal(f"run {command[0]}")

    def offer(self, there: Path, owner: tuple[int, int] | None) -> Offer:
        """See Reach."""
        raise self._refusal(f"open the socket {there}")

    def close(self) -> None:
        """Nothing was begun."""

    def _refusal(self, what: str) -> FilesOutOfReach:
        return FilesOutOfReach(
            f"newhope cannot {what} on host {self._host.name}: {self._why}.",
            next_step="Reach it with qemu+ssh://user@HOST/system and a login that has a shell; see the README, Hosts.",
        )


class _LocalOffer:
    """The server's own socket: whoever is to use it is on this machine."""

    def __init__(self, listening: Path, owner: tuple[int, int] | None) -> None:
        self._owner = owner
        self.listening = listening

    def renew(self) -> bool:
        owner, self._owner = self._owner, None
        if owner is not None:
            os.chown(self.listening, *owner)
        return owner is not None

    def close(self) -> None:
        """The server takes its socket away itself."""


class _LocalServer:
    look_every_s = 0.005

    def __init__(self, process: subprocess.Popen[bytes], address: UnixAddress, program: str) -> None:
        self._process = process
        self._program = program
        self.address = address

    def poll(self) -> int | None:
        status = self._process.poll()
        if status is not None:
            tied_process.raise_if_missing(self._program, status)
        return status


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server so that it writes out and closes the image (SIGTERM); only one that hangs is killed."""
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
