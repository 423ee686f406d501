"""Writing a cpio archive in the "newc" format, the one that Linux unpacks as its first root file system.

Device nodes are only entries with numbers in them, so no root is needed to write them. The format is described in the
kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.
"""

from __future__ import annotations

import stat
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


class CpioWriter:
    """An archive being written to `sink`; every entry belongs to root. Close it to write the trailer."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._written_bytes = 0
        self._inode = 0
        self._folders: set[str] = set()

    def folder(self, path: str, permissions: int = 0o755) -> None:
        """Add a folder and those above it; adding it twice is harmless."""
        path = path.strip("/")
        if not path or path in self._folders:
            return
        above, _, _ = path.rpartition("/")
        self.folder(above)
        self._folders.add(path)
        self._entry(path, stat.S_IFDIR | permissions, links=2)

    def file(self, path: str, content: bytes, permissions: int = 0o644) -> None:
        """Add a regular file, and the folders above it where they are missing."""
        self._below_its_folder(path)
        self._entry(path.strip("/"), stat.S_IFREG | permissions, content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link from `path` to `target`."""
        self._below_its_folder(path)
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, permissions: int = 0o600) -> None:
        """Add a character device node."""
        self._below_its_folder(path)
        self._entry(path.strip("/"), stat.S_IFCHR | permissions, device=(major, minor))

    def close(self) -> None:
        """Write the trailer. The sink stays open."""
        self._entry(_TRAILER, 0, inode=0)

    def _below_its_folder(self, path: str) -> None:
        above, _, _ = path.strip("/").rpartition("/")
        self.folder(above)

    def _entry(
        self,
        name: str,
        mode: int,
        content: bytes = b"",
        *,
        links: int = 1,
        device: tuple[int, int] = (0, 0),
        inode: int | None = None,
    ) -> None:
        if inode is None:
            self._inode += 1
            inode = self._inode
        raw_name = name.encode() + b"\0"
        numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(raw_name), 0)
        self._write(_MAGIC + b"".join(b"%08X" % number for number in numbers))
        self._write(raw_name)
        self._pad()
        self._write(content)
        self._pad()

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._written_bytes += len(data)

    def _pad(self) -> None:
        self._write(b"\0" * (-self._written_bytes % 4))
