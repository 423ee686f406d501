"""Where a restored disk is written: into a new image of any format, from several threads at once.

1. A raw image in a plain file of this machine is written directly: what arrives is put at its offset, what never
   arrives stays a hole. That saves a second process, and the copy through its socket.
2. Everything else (qcow2, volumes that are block devices, every disk of another machine) is written by `qemu-nbd`
   (`image.serve`), over as many connections as there are threads writing.

3. Where the host runs no programs for us, libvirt takes the bytes itself (`volume_upload`).

The first two hold QEMU's own locks, so that no VM can be started on a half-written image.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from engine import nbd
from engine.hosts import image
from engine.hosts.raw_file import RawFile
from engine.hosts.reach import HERE, Reach


class DiskSink(Protocol):
    """A disk being written. Safe for any number of threads, as long as their ranges do not overlap."""

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at their offset. Raises a `NewhopeError` for what the storage refuses."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Let a range read as zeroes, whatever it held. Raises a `NewhopeError` for what the storage refuses."""
        ...

    def flush(self) -> None:
        """Make durable what was written. Without it nothing is promised."""
        ...


@contextmanager
def open_sink(
    path: Path | str,
    image_format: str,
    socket_path: Path | str,
    reach: Reach = HERE,
    *,
    keep: bool = False,
) -> Generator[DiskSink]:
    """Write a new image of a host whose content is all zero; of a plain raw file here, what it held is dropped.

    `keep` leaves the image as it is, to go on with one that was half written. `socket_path` is where QEMU listens on
    the host if it is needed.
    Raises ImageInUse, ImageMissing, ImageFull, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    if reach.local and image_format == "raw" and _is_file(Path(path)):
        with RawFile(Path(path), keep=keep) as file:
            yield file
        return
    serving = image.serve(path, image_format, socket_path, writable=True, reach=reach)
    with serving as address, _ServedDisk(address) as served:
        yield served


class _ServedDisk:
    """A disk behind an NBD server: each thread that writes takes a connection, and gives it back."""

    def __init__(self, address: nbd.Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        """Guards the two lists; never held while something is sent."""
        self._all: list[nbd.Client] = []
        self._idle: list[nbd.Client] = []

    def __enter__(self) -> _ServedDisk:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._all:
            client.close()

    def write(self, offset: int, content: bytes) -> None:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = nbd.Client.connect(self._address)
            with self._lock:
                self._all.append(client)
        # One that failed is not given back: what is on its wire cannot be known.
        client.write(offset, content)
        with self._lock:
            self._idle.append(client)

    def zero(self, offset: int, length: int) -> None:
        with nbd.Client.connect(self._address) as client:
            client.write_zeroes(offset, length, may_trim=True)
            client.flush()

    def flush(self) -> None:
        # A server need not count other connections' writes in.
        for client in self._all:
            client.flush()


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        # QEMU meets the same trouble, and its complaint is the one that is explained.
        return False
