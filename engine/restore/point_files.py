"""The files in a recovery point, whatever kind it is of: a tree that can be listed, looked at and read.

Names and links were chosen by a guest. Whoever gives entries away has checked that no name leads out of its folder
(`is_plain`); whoever shows them does so through `shown`; nobody here follows a link.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.errors import ExitCode, NewhopeError, NotFound
from engine.repository import EntryKind, GuestEntry, Point, Reader, RepositoryDamaged, read_guest_file, read_listing


class NoFilesInIt(NewhopeError):
    """The recovery point is of a kind whose files cannot be read."""

    exit_code = ExitCode.PREFLIGHT


class PointFiles(Protocol):
    """One source of files. Paths are bytes, without a slash in front or behind; `b""` is the top."""

    def stat(self, path: bytes) -> GuestEntry:
        """The entry of that path. Raises NotFound."""
        ...

    def children(self, path: bytes) -> Iterator[GuestEntry]:
        """What is in a folder, by name; a file has nothing in it. Raises NotFound."""
        ...

    def read(self, entry: GuestEntry) -> Iterator[bytes]:
        """The content of a file, or of what a hard link leads to, every byte checked. Raises RepositoryDamaged."""
        ...


class GuestPointFiles:
    """The files of a point of kind guest. Folders above what was asked for are there without having been kept."""

    def __init__(self, reader: Reader, point: Point) -> None:
        self._reader = reader
        self._point = point
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

    def stat(self, path: bytes) -> GuestEntry:
        """The entry of that path. Raises NotFound."""
        entry = self._entries.get(path)
        if entry is not None:
            return entry
        if path in self._names:
            return GuestEntry(path, EntryKind.FOLDER, mode=0o755)
        vm = self._point.manifest.vm.name
        raise NotFound(
            f"There is no /{shown(path)} in {vm}@{self._point.id[:8]}.",
            next_step=f"See what there is: newhope files {vm}@{self._point.id[:8]}.",
        )

    def children(self, path: bytes) -> Iterator[GuestEntry]:
        """What is in a folder, by name."""
        self.stat(path)
        for child in sorted(self._names.get(path, ())):
            yield self.stat(child)

    def read(self, entry: GuestEntry) -> Iterator[bytes]:
        """The content of a file, or of what a hard link leads to."""
        content = self._entries.get(entry.target) if entry.kind is EntryKind.HARD_LINK else entry
        if content is None or content.kind is not EntryKind.FILE:
            raise NotFound(
                f"/{shown(entry.path)} is another name of /{shown(entry.target)}, which is not in the recovery point.",
                next_step="Keep that path too: paths in [guest_files.NAME] of the settings.",
            )
        yield from read_guest_file(self._reader, self._point.manifest.disks[0], content)

    def _note_above(self, path: bytes) -> None:
        while path:
            above = path.rpartition(b"/")[0]
            siblings = self._names.setdefault(above, set())
            if path in siblings:
                return
            siblings.add(path)
            path = above


def below(files: PointFiles, path: bytes) -> Iterator[GuestEntry]:
    """An entry and all that is below it, folders before what is in them. Raises NotFound."""
    pending = [files.stat(path)]
    while pending:
        entry = pending.pop()
        yield entry
        if entry.kind is EntryKind.FOLDER:
            pending.extend(reversed(list(files.children(entry.path))))


def size_of(files: PointFiles, entry: GuestEntry) -> int:
    """Bytes of the content that an entry leads to."""
    return files.stat(entry.target).size_bytes if entry.kind is EntryKind.HARD_LINK else entry.size_bytes


def is_plain(path: bytes) -> bool:
    """Whether a path names something below the folder that it is in, and nothing else."""
    return b"\0" not in path and all(part not in (b"", b".", b"..") for part in path.split(b"/"))


def plain_path(text: str) -> bytes:
    """A path as an operator writes it, as those of entries are: `/etc/` and `etc` are the same. Raises NotFound."""
    parts = [part for part in text.encode(errors="surrogateescape").split(b"/") if part not in (b"", b".")]
    path = b"/".join(parts)
    if parts and not is_plain(path):
        raise NotFound(f"{text!r} is no plain path.", next_step="Write it from the root on, without ..: /etc/hosts.")
    return path


def shown(path: bytes) -> str:
    """A name for people: what a terminal could take for a command is escaped."""
    text = path.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
