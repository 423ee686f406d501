"""Files on their way out of a guest and back, as tar: `pax(1)` of POSIX, and what GNU tar and busybox add to ustar.

The bytes come from a guest, so nothing in them is believed: every header has its checksum looked at, every length its
limit, and a name that leads out of the folder it is in ends the reading. Nothing is written here.

1. A header may follow others that say what does not fit into it: `x` (pax records for the next entry), `g` (for all
   that follow), `L` and `K` (GNU: a long name, a long link target).
2. `read_entries` gives each entry with its content, which the caller reads or leaves; what is left is passed over.
3. Two zero blocks end the archive. One that ends before them was cut off: `TarUnsound`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.file_entry import FileEntry, FileKind

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
LONGEST_NAME_BYTES = 4096
"""PATH_MAX of Linux."""
LONGEST_EXTRA_BYTES = 1 << 20
LARGEST_FILE_BYTES = 1 << 43

_KEPT_KEYWORDS = ("SCHILY.xattr.", "SCHILY.acl.", "RHT.security.")
_PASS_OVER_BYTES = 1 << 18

Read = Callable[[int], bytes]
"""Gives up to so many bytes, and none only at the end."""


class TarUnsound(Exception):
    """What a guest sent is not an archive that could be believed; the text says why, as the end of a sentence."""


_KIND_OF = {
    b"0": FileKind.FILE,
    b"\0": FileKind.FILE,
    b"7": FileKind.FILE,
    b"1": FileKind.HARD_LINK,
    b"2": FileKind.SYMLINK,
    b"3": FileKind.CHARACTER_DEVICE,
    b"4": FileKind.BLOCK_DEVICE,
    b"5": FileKind.FOLDER,
    b"6": FileKind.FIFO,
}
_TYPE_OF = {kind: letter for letter, kind in _KIND_OF.items() if letter not in (b"\0", b"7")}


class _Header(NamedTuple):
    """A header of 512 bytes, with what others before it said put in."""

    block: bytes
    records: dict[str, bytes]
    size_bytes: int


def read_entries(read: Read) -> Iterator[tuple[FileEntry, Read]]:
    """Every entry with a way to read its content, to be used before the next one is asked for. Raises `TarUnsound`."""
    everywhere: dict[str, bytes] = {}
    while (header := _next_header(read, everywhere)) is not None:
        entry = _entry_of(header)
        left = entry.size_bytes

        def content(length: int) -> bytes:
            nonlocal left
            piece = _some(read, min(length, left)) if left and length else b""
            left -= len(piece)
            return piece

        yield entry, content
        while left:
            content(_PASS_OVER_BYTES)
        _exactly(read, -entry.size_bytes % BLOCK_BYTES)


def header_of(entry: FileEntry) -> bytes:
    """The blocks that stand before an entry's content: pax records, then a ustar header."""
    records = dict(entry.attributes)
    records["path"] = entry.path + (b"/" if entry.kind is FileKind.FOLDER else b"")
    if entry.target:
        records["linkpath"] = entry.target
    records["size"] = b"%d" % entry.size_bytes
    records["uid"], records["gid"] = b"%d" % entry.uid, b"%d" % entry.gid
    seconds, fraction = divmod(entry.mtime_ns, 10**9)
    if fraction and seconds >= 0:
        records["mtime"] = b"%d.%09d" % (seconds, fraction)
    seconds = max(seconds, 0)
    ustar = _ustar(entry, _TYPE_OF[entry.kind], min(seconds, 8**11 - 1), entry.size_bytes)
    if _fits(entry, records):
        return ustar
    extra = b"".join(_record(keyword, value) for keyword, value in records.items())
    stand_in = FileEntry(b"pax/" + entry.path[:80].rstrip(b"/"), FileKind.FILE, mode=0o600, size_bytes=len(extra))
    return _ustar(stand_in, b"x", 0, len(extra)) + padded(extra) + ustar


def padded(content: bytes) -> bytes:
    """Content with the zeroes that stand behind it in an archive."""
    return content + bytes(-len(content) % BLOCK_BYTES)


def archive_bytes(entry: FileEntry) -> int:
    """How many bytes an entry takes in an archive."""
    return len(header_of(entry)) + entry.size_bytes + -entry.size_bytes % BLOCK_BYTES


def clean_path(name: bytes) -> bytes:
    """A name as paths of entries are written; raises `TarUnsound` for one that leads somewhere else."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name:
        raise TarUnsound(f"the name {name[:200]!r} leads out of the folder that it is in")
    if len(name) > LONGEST_NAME_BYTES:
        raise TarUnsound(f"a name has {len(name)} bytes")
    return b"/".join(parts)


def _next_header(read: Read, everywhere: dict[str, bytes]) -> _Header | None:
    """The header of the next entry; None at the end of the archive."""
    records = dict(everywhere)
    while True:
        block = _exactly(read, BLOCK_BYTES)
        if block == bytes(BLOCK_BYTES):
            if _exactly(read, BLOCK_BYTES) != bytes(BLOCK_BYTES):
                raise TarUnsound("a header is missing in the middle")
            return None
        _check(block)
        kind, size_bytes = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g", b"X", b"L", b"K"):
            if size_bytes > LONGEST_EXTRA_BYTES:
                raise TarUnsound(f"what precedes an entry has {size_bytes} bytes")
            extra = _exactly(read, size_bytes)
            _exactly(read, -size_bytes % BLOCK_BYTES)
            if kind == b"L":
                records["path"] = extra.rstrip(b"\0")
            elif kind == b"K":
                records["linkpath"] = extra.rstrip(b"\0")
            else:
                found = _records(extra)
                records |= found
                if kind == b"g":
                    everywhere |= found
            continue
        if "size" in records:
            size_bytes = _decimal(records["size"])
        return _Header(block, records, size_bytes)


def _entry_of(header: _Header) -> FileEntry:
    block, records = header.block, header.records
    letter = block[156:157]
    if letter not in _KIND_OF:
        raise TarUnsound(f"there is an entry of the unknown type {letter!r}")
    name = records.get("path") or _name_of(block)
    kind = _KIND_OF[letter]
    if kind is FileKind.FILE and name.endswith(b"/"):
        kind = FileKind.FOLDER
    if not 0 <= header.size_bytes <= LARGEST_FILE_BYTES:
        raise TarUnsound(f"a file would have {header.size_bytes} bytes")
    target = (
        (records.get("linkpath") or _text(block[157:257])) if kind in (FileKind.SYMLINK, FileKind.HARD_LINK) else b""
    )
    if len(target) > LONGEST_NAME_BYTES or b"\0" in target:
        raise TarUnsound(f"a link leads to a name of {len(target)} bytes")
    device = kind in (FileKind.CHARACTER_DEVICE, FileKind.BLOCK_DEVICE)
    return FileEntry(
        path=clean_path(name),
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        uid=_decimal(records["uid"]) if "uid" in records else _number(block[108:116]),
        gid=_decimal(records["gid"]) if "gid" in records else _number(block[116:124]),
        owner=(records.get("uname") or _text(block[265:297])).decode(errors="replace"),
        group=(records.get("gname") or _text(block[297:329])).decode(errors="replace"),
        mtime_ns=_nanoseconds(records["mtime"]) if "mtime" in records else _number(block[136:148]) * 10**9,
        size_bytes=header.size_bytes if kind is FileKind.FILE else 0,
        target=clean_path(target) if kind is FileKind.HARD_LINK else target,
        device=(_number(block[329:337]), _number(block[337:345])) if device else (0, 0),
        attributes={word: value for word, value in records.items() if word.startswith(_KEPT_KEYWORDS)},
    )


def _name_of(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _records(extra: bytes) -> dict[str, bytes]:
    """The records of a pax header: `LENGTH KEYWORD=VALUE\\n`, the length counting all of it."""
    found: dict[str, bytes] = {}
    place = 0
    while place < len(extra):
        digits, space, _ = extra[place : place + 12].partition(b" ")
        length = _decimal(digits) if space else 0
        record = extra[place : place + length]
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if length < len(digits) + 3 or len(record) != length or record[-1:] != b"\n" or not equals:
            raise TarUnsound("a pax record is not one")
        found[keyword.decode(errors="replace")] = value
        place += length
    return found


def _check(block: bytes) -> None:
    told = _number(block[148:156])
    if told != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
        raise TarUnsound("a header has the wrong checksum")


def _number(field: bytes) -> int:
    """A number as tar writes it: octal, or binary after a byte of 0x80 (GNU)."""
    if field[:1] and field[0] & 0x80:
        if field[0] != 0x80:
            raise TarUnsound("a number is negative")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarUnsound(f"{digits[:20]!r} is no number") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarUnsound(f"{text[:20]!r} is no number")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    value = _decimal(whole) * 10**9 + (_decimal(fraction[:9].ljust(9, b"0")) if fraction else 0)
    return min(-value if text.startswith(b"-") else value, 2**62)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _some(read: Read, length: int) -> bytes:
    piece = read(length)
    if not piece:
        raise TarUnsound("it was cut off")
    return piece


def _exactly(read: Read, length: int) -> bytes:
    pieces: list[bytes] = []
    while length:
        piece = _some(read, length)
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _fits(entry: FileEntry, records: dict[str, bytes]) -> bool:
    """Whether a ustar header alone says all."""
    return (
        len(records["path"]) <= 100
        and len(entry.target) <= 100
        and entry.size_bytes < 8**11
        and max(entry.uid, entry.gid) < 8**7
        and "mtime" not in records
        and not entry.attributes
    )


def _ustar(entry: FileEntry, letter: bytes, seconds: int, size_bytes: int) -> bytes:
    name = entry.path + (b"/" if entry.kind is FileKind.FOLDER else b"")
    fields = (
        name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        b"%07o\0" % min(entry.uid, 8**7 - 1),
        b"%07o\0" % min(entry.gid, 8**7 - 1),
        b"%011o\0" % min(size_bytes, 8**11 - 1),
        b"%011o\0" % seconds,
        b" " * 8,
        letter,
        entry.target[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        entry.owner.encode()[:31].ljust(32, b"\0"),
        entry.group.encode()[:31].ljust(32, b"\0"),
        b"%07o\0" % (entry.device[0] & 0o7777777),
        b"%07o\0" % (entry.device[1] & 0o7777777),
    )
    block = b"".join(fields).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(keyword: str, value: bytes) -> bytes:
    rest = b" " + keyword.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
