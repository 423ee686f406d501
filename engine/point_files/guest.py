"""The files of a point of kind guest: a listing, and their content."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import NotFound
from engine.file_entry import FileEntry, FileKind, is_plain, shown
from engine.point_files.tree import Children, Piece
from engine.repository import GuestEntry, Point, Reader, RepositoryDamaged, read_listing

_PIECE_BYTES = 1 << 20
_FINE_BYTES = 64 << 10
"""How exactly a lost range is told."""


class GuestFiles:
    """The files of one point. Folders above what was asked for are there without having been kept."""

    volume = ""

    def __init__(self, reader: Reader, point: Point, *, salvage: bool = False) -> None:
        """Raises RepositoryDamaged."""
        self._reader = reader
        self._point = point
        self._salvage = salvage
        self._entries: dict[bytes, GuestEntry] = {}
        self._names: dict[bytes, set[bytes]] = {b"": set()}
        for entry in read_listing(reader, point):
            if not is_plain(entry.path):
                raise RepositoryDamaged(
                    f"The listing of {point.manifest.vm.name}@{point.id} has a name that leads somewhere else: "
                    f"{shown(entry.path[:200])}.",
                    untouched="Nothing was written.",
                    next_step="Use another recovery point: newhope points.",
                )
            self._entries[entry.path] = entry
            self._note_above(entry.path)

    def stat(self, path: bytes, *, follow: bool = False) -> FileEntry:
        """What is at a path. A symlink is never followed: much of what they lead to was not kept."""
        entry = self._entries.get(path)
        if entry is not None:
            return entry
        if path in self._names:
            return GuestEntry(path, FileKind.FOLDER, mode=0o755)
        vm = self._point.manifest.vm.name
        raise NotFound(
            f"There is no /{shown(path)} in {vm}@{self._point.id[:8]}.",
            next_step=f"See what there is: newhope files {vm}@{self._point.id[:8]}.",
        )

    def children(self, path: bytes) -> Children:
        """What is in a folder; a file has nothing in it."""
        self.stat(path)
        return Children(tuple(self.stat(child) for child in sorted(self._names.get(path, ()))))

    def read(self, entry: FileEntry) -> Iterator[Piece]:
        """The content of a file, or of what a hard link leads to."""
        content = self._entries.get(entry.target if entry.kind is FileKind.HARD_LINK else entry.path)
        if content is None or content.kind is not FileKind.FILE:
            raise NotFound(
                f"/{shown(entry.path)} is another name of /{shown(entry.target)}, which is not in the recovery point.",
                next_step="Keep that path too: paths in [guest_files.NAME] of the settings.",
            )
        done = 0
        while done < content.size_bytes:
            length = min(_PIECE_BYTES, content.size_bytes - done)
            try:
                yield self._piece(content.offset + done, length)
            except RepositoryDamaged:
                if not self._salvage:
                    raise
                yield from self._what_is_left(content.offset + done, length)
            done += length

    def _piece(self, offset: int, length: int) -> Piece:
        data = self._reader.read_range(self._point.manifest.disks[0], offset, length)
        return Piece(length) if data.count(0) == length else Piece(length, data)

    def _what_is_left(self, offset: int, length: int) -> Iterator[Piece]:
        for start in range(0, length, _FINE_BYTES):
            wanted = min(_FINE_BYTES, length - start)
            try:
                yield self._piece(offset + start, wanted)
            except RepositoryDamaged:
                yield Piece(wanted, lost=True)

    def _note_above(self, path: bytes) -> None:
        while path:
            above = path.rpartition(b"/")[0]
            siblings = self._names.setdefault(above, set())
            if path in siblings:
                return
            siblings.add(path)
            path = above
