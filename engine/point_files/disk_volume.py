"""The files on a volume of a point's disks, asked of the process that looks into them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from engine.disk_files import DiskFiles, FileSystemUnreadable
from engine.file_entry import FileEntry, shown
from engine.point_files.tree import Children, Piece

_PIECE_BYTES = 4 << 20
_FINE_BYTES = 64 << 10
"""How exactly a lost range is told."""


class VolumeFiles:
    """The files on one volume."""

    def __init__(self, disks: DiskFiles, volume: str) -> None:
        self._disks = disks
        self._volume = volume

    @property
    def volume(self) -> str:
        """`vda2`, `vg0/root`."""
        return self._volume

    def stat(self, path: bytes, *, follow: bool = False) -> FileEntry:
        """What is at a path. Symlinks on the way to it are followed, inside the volume."""
        return replace(self._disks.find(self._volume, _parts(path), follow=follow), path=path)

    def children(self, path: bytes) -> Children:
        """What is in a folder, or in the folder that a symlink leads to."""
        self._disks.lost = False
        found, nameless = self._disks.entries(self._volume, _parts(path))
        above = path + b"/" if path else b""
        remarks = (f"{nameless} of its names cannot be names of files",) if nameless else ()
        if self._disks.lost:
            remarks += ("a part of its list of names is lost: some files may be missing",)
        return Children(tuple(replace(entry, path=above + entry.path) for entry in found), remarks)

    def read(self, entry: FileEntry) -> Iterator[Piece]:
        """The content of a file."""
        done = 0
        while done < entry.size_bytes:
            piece = self._piece(entry, done, min(_PIECE_BYTES, entry.size_bytes - done))
            if not piece.lost:
                yield piece
                done += piece.size_bytes
                continue
            end = done + piece.size_bytes
            while done < end:
                piece = self._piece(entry, done, min(_FINE_BYTES, end - done))
                yield piece
                done += piece.size_bytes

    def _piece(self, entry: FileEntry, offset: int, wanted: int) -> Piece:
        self._disks.lost = False
        content = self._disks.read(self._volume, _parts(entry.path), offset, wanted)
        if isinstance(content, int):
            return Piece(min(content, entry.size_bytes - offset), lost=self._disks.lost)
        if len(content) < wanted:
            raise FileSystemUnreadable(
                f"{self._volume}:/{shown(entry.path)} ends after {offset + len(content)} of {entry.size_bytes} bytes.",
                untouched="The recovery point is as it was.",
                next_step="with --salvage it is left out, and the rest is written.",
            )
        return Piece(len(content), content, lost=self._disks.lost)


def _parts(path: bytes) -> tuple[bytes, ...]:
    return tuple(path.split(b"/")) if path else ()
