"""A recovery point, opened to look at its files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from engine.disk_files import Disk, DiskFiles, Volume, open_disks
from engine.point_files.disk_volume import VolumeFiles
from engine.point_files.guest import GuestFiles
from engine.point_files.tree import PointFiles
from engine.repository import DiskRecord, Point, PointKind, Reader, Repository

GUEST_FILES = "guest files"
"""What the one volume of a point of guest files holds."""


def has_disks(point: Point) -> bool:
    """Whether a point is of a VM with its disks, not of guest files alone."""
    return point.manifest.kind is not PointKind.GUEST


class OpenedFiles:
    """A point whose files can be looked at, from any thread; what is read, by one at a time."""

    def __init__(self, point: Point, source: DiskFiles | GuestFiles) -> None:
        self.point = point
        self._source = source

    def volumes(self) -> tuple[Volume, ...]:
        """What is on its disks; a point of guest files has one volume, without a name.

        Raises FileSystemUnreadable, RepositoryDamaged.
        """
        if isinstance(self._source, DiskFiles):
            return self._source.volumes()
        kept = self.point.manifest.guest_files
        size_bytes = kept.size_bytes if kept is not None else 0
        return (Volume("", GUEST_FILES, size_bytes, readable=True, root=True),)

    def on(self, volume: str) -> PointFiles:
        """The files on a volume."""
        return VolumeFiles(self._source, volume) if isinstance(self._source, DiskFiles) else self._source


@contextmanager
def open_files(repository: Repository, point: Point, *, salvage: bool = False) -> Generator[OpenedFiles]:
    """Open a point. With `salvage` what is lost in the repository reads as zero, and is told.

    Raises MissingPackage where a point has disks and their parsers are not installed, RepositoryDamaged.
    """
    with repository.reader() as reader:
        if not has_disks(point):
            yield OpenedFiles(point, GuestFiles(reader, point, salvage=salvage))
            return
        disks = [_disk(reader, record) for record in point.manifest.disks]
        with open_disks(disks, salvage=salvage) as looking:
            yield OpenedFiles(point, looking)


def _disk(reader: Reader, record: DiskRecord) -> Disk:
    return Disk(record.target, record.size_bytes, lambda offset, length: reader.read_range(record, offset, length))
