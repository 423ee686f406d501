"""Taking a path for a Unix socket, or a TCP port, to listen on, and giving it back.

A server that was killed leaves its socket file behind, and nobody can bind to a path that exists. The file may be
removed only if nobody listens on it. Between looking and removing, another server might take the path; so all of it
happens under a lock on the folder, which the kernel drops whatever becomes of us.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.nbd.address import LONGEST_SOCKET_PATH, TcpAddress
from engine.nbd.errors import NotServable

_BACKLOG = 64


class Listener:
    """A listening Unix socket that only its owner can reach, and the identity of its file."""

    def __init__(self, path: Path) -> None:
        """Bind and listen. Raises `NotServable` if the path is taken, too long, or not writable."""
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise NotServable(
                f"The socket path {path} is longer than the {LONGEST_SOCKET_PATH} bytes that the kernel takes.",
                next_step="use a folder with a shorter path.",
            )
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _locked(path.parent):
                _remove_stale(path)
                self.socket.bind(str(path))
                # Nobody can connect before listen(), so nobody can slip in before the mode is right.
                path.chmod(0o600)
                self.socket.listen(_BACKLOG)
                self._identity = _identity(path)
        except OSError as failure:
            self.socket.close()
            raise NotServable(
                f"No socket can be made at {path}: {failure.strerror or failure}.",
                next_step=f"check that {path.parent} exists and is writable.",
            ) from failure
        except BaseException:
            self.socket.close()
            raise

    def wake(self) -> None:
        """Let a thread that waits in accept() return."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and remove the file, unless somebody has put another one in its place."""
        with suppress(OSError), _locked(self.path.parent):  # Its folder may be gone, and the file with it.
            if _identity(self.path) == self._identity:
                self.path.unlink()
        self.socket.close()


class TcpListener:
    """A listening TCP port. Who may connect is for the network to say: nothing on it is encrypted."""

    def __init__(self, address: TcpAddress) -> None:
        """Bind and listen. Raises `NotServable` if the port is taken or may not be used."""
        self.socket = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Else a server that ended a moment ago keeps its port for a minute (TIME_WAIT).
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Inherited by what is accepted: a small answer must not wait for the client's acknowledgement.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.bind((address.host, address.port))
            self.socket.listen(_BACKLOG)
        except OSError as failure:
            self.socket.close()
            raise NotServable(
                f"Nobody can listen on {address}: {failure.strerror or failure}.",
                next_step="choose another port, or end the program that has it.",
            ) from failure

    def wake(self) -> None:
        """Let a thread that waits in accept() return."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotServable(
            f"{path} exists and is not a socket; it was left alone.",
            next_step="choose another path, or move the file away.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener whose queue is full would make connect() wait; it is alive all the same.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise NotServable(
        f"Another server listens at {path}; it was left alone.",
        next_step="choose another path, or end that server.",
    )
