"""What a guest has in a folder: one value, from wherever it is seen (its tar, a listing that was kept, its disks).

Names and targets were chosen by a guest. Whoever gives entries away has checked that no path leads out of its folder
(`is_plain`); whoever shows them does so through `shown`.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class FileKind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    HARD_LINK = "hard-link"
    """Another name of a file that has an entry of its own."""
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    FIFO = "fifo"
    SPECIAL = "special"
    """A device, FIFO or socket on a disk, where it is not looked which."""
    UNREADABLE = "unreadable"
    """Its name is known; what it is cannot be read."""


class FileEntry(Struct, frozen=True, omit_defaults=True):
    """One name in a guest."""

    path: bytes
    """As the guest has it, without a slash in front or behind, and without `.` and `..`: `etc/hosts`."""
    kind: FileKind
    mode: int = 0
    """Permission bits, with set-user-ID, set-group-ID and sticky; 0 where the file system knows none."""
    uid: int = 0
    """-1 where the file system knows no owners."""
    gid: int = 0
    owner: str = ""
    """Empty where only the number is known."""
    group: str = ""
    mtime_ns: int = 0
    """Last change of the content, since 1970; of a FAT file system in its guest's local time, taken as UTC."""
    size_bytes: int = 0
    """Of a file's content."""
    target: bytes = b""
    """Where a link leads: of a hard link, the path of the entry that has the content."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""
    attributes: dict[str, bytes] = {}
    """Extended attributes, ACLs and SELinux labels, by the keywords of pax headers (`SCHILY.xattr.user.NAME`)."""
    problem: str = ""
    """Why it is `UNREADABLE`."""

    @property
    def name(self) -> bytes:
        """The last part of its path."""
        return self.path.rpartition(b"/")[2]


def is_plain(path: bytes) -> bool:
    """Whether a path names something below the folder that it is in, and nothing else."""
    return b"\0" not in path and all(part not in (b"", b".", b"..") for part in path.split(b"/"))


def shown(name: bytes | str) -> str:
    """A name, or words of a guest's, as they can be shown: what a terminal would obey, and what is no text, escaped."""
    text = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
    letters: list[str] = []
    for letter in text:
        if 0xDC80 <= ord(letter) <= 0xDCFF:
            letters.append(f"\\x{ord(letter) - 0xDC00:02x}")
        elif letter.isprintable() and letter != "\\":
            letters.append(letter)
        else:
            letters.append(letter.encode("unicode_escape", "backslashreplace").decode())
    return "".join(letters)
