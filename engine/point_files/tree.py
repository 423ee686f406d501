"""What can be asked of the files on a volume of a recovery point, whatever kind the point is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from engine.file_entry import FileEntry, FileKind, shown


class Children(Struct, frozen=True):
    """What is in a folder."""

    entries: tuple[FileEntry, ...]
    """By name."""
    remarks: tuple[str, ...] = ()
    """What may be missing, each as the end of a sentence."""


class Piece(Struct, frozen=True):
    """The next bytes of a file."""

    size_bytes: int
    data: bytes = b""
    """Empty where they are zeroes."""
    lost: bool = False
    """Whether some of them are lost in the repository, and zero here; only where salvage was asked for."""


class PointFiles(Protocol):
    """The files on a volume. Paths are bytes, without a slash in front or behind; `b""` is the top."""

    @property
    def volume(self) -> str:
        """Its name; empty for a point of guest files."""
        ...

    def stat(self, path: bytes, *, follow: bool = False) -> FileEntry:
        """What is at a path; with `follow`, what a symlink there leads to. Raises NotFound."""
        ...

    def children(self, path: bytes) -> Children:
        """What is in a folder. Raises NotFound, FileSystemUnreadable, RepositoryDamaged."""
        ...

    def read(self, entry: FileEntry) -> Iterator[Piece]:
        """The content of a file, or of what a hard link leads to, every byte checked.

        Raises RepositoryDamaged, FileSystemUnreadable.
        """
        ...


def below(files: PointFiles, top: FileEntry, remarks: list[str] | None = None) -> Iterator[FileEntry]:
    """An entry and all that is below it, folders before what is in them. Raises what asking for it raises.

    What may be missing is added to `remarks`.
    """
    pending = [top]
    while pending:
        entry = pending.pop()
        yield entry
        if entry.kind is FileKind.FOLDER:
            children = files.children(entry.path)
            pending.extend(reversed(children.entries))
            if remarks is not None:
                remarks.extend(f"/{shown(entry.path)}: {remark}" for remark in children.remarks)


def size_of(files: PointFiles, entry: FileEntry) -> int:
    """Bytes of the content that an entry leads to."""
    return files.stat(entry.target).size_bytes if entry.kind is FileKind.HARD_LINK else entry.size_bytes
