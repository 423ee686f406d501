"""The disks of a recovery point, opened to be looked into."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from engine.disk_files import Disk, DiskFiles, open_disks
from engine.repository import DiskRecord, Point, Reader, Repository


@contextmanager
def open_files(repository: Repository, point: Point, *, salvage: bool = False) -> Generator[DiskFiles]:
    """Open a point's disks. With `salvage` what is lost in the repository reads as zero."""
    with repository.reader() as reader:
        disks = [_disk(reader, record) for record in point.manifest.disks]
        with open_disks(disks, salvage=salvage) as files:
            yield files


def _disk(reader: Reader, record: DiskRecord) -> Disk:
    return Disk(record.target, record.size_bytes, lambda offset, length: reader.read_range(record, offset, length))


def printable(name: bytes) -> str:
    """A name as it can be shown: what a terminal would obey, and what is no text, is written as `\\x1b`."""
    shown: list[str] = []
    for letter in os.fsdecode(name):
        if 0xDC80 <= ord(letter) <= 0xDCFF:
            shown.append(f"\\x{ord(letter) - 0xDC00:02x}")
        elif letter.isprintable() and letter != "\\":
            shown.append(letter)
        else:
            shown.append(letter.encode("unicode_escape").decode())
    return "".join(shown)
