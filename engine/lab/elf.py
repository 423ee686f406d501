"""Reading what an ELF file says about itself: the libraries a program needs, the sections of a kernel module.

Only 64-bit little-endian files are read; that covers the machines libvirt's guests of this lab are built for (x86-64,
AArch64). The layout is that of `elf(5)`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD = 1
_PT_DYNAMIC = 2
_PT_INTERP = 3
_DT_NULL = 0
_DT_NEEDED = 1
_DT_STRTAB = 5


class ElfDamaged(ValueError):
    """The bytes are not a 64-bit little-endian ELF file."""


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size_bytes: int


def needed_libraries(content: bytes) -> tuple[str, ...]:
    """Names of the shared libraries that a program or library asks for, in its own order."""
    segments = tuple(_segments(content))
    dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return ()
    entries: list[tuple[int, int]] = []
    for offset in range(dynamic.offset, dynamic.offset + dynamic.size_bytes, 16):
        tag, value = struct.unpack_from("<qQ", content, offset)
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    strings_address = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    if strings_address is None:
        return ()
    strings = _file_offset(segments, strings_address)
    return tuple(_text_at(content, strings + value) for tag, value in entries if tag == _DT_NEEDED)


def interpreter(content: bytes) -> str | None:
    """Path of the dynamic loader that a program names; None for a static program or a library."""
    for segment in _segments(content):
        if segment.kind == _PT_INTERP:
            return _text_at(content, segment.offset)
    return None


def section(content: bytes, name: str) -> bytes:
    """Content of the section of that name; empty if there is none."""
    _check(content)
    (table,) = struct.unpack_from("<Q", content, 40)
    entry_bytes, count, names_index = struct.unpack_from("<HHH", content, 58)
    headers = [struct.unpack_from("<IIQQQQ", content, table + index * entry_bytes) for index in range(count)]
    if not headers:
        return b""
    names = headers[names_index][4]
    for header in headers:
        if _text_at(content, names + header[0]) == name:
            return content[header[4] : header[4] + header[5]]
    return b""


def _segments(content: bytes) -> Iterator[_Segment]:
    _check(content)
    (table,) = struct.unpack_from("<Q", content, 32)
    entry_bytes, count = struct.unpack_from("<HH", content, 54)
    for index in range(count):
        kind, _flags, offset, address, _physical, size_bytes = struct.unpack_from(
            "<IIQQQQ", content, table + index * entry_bytes
        )
        yield _Segment(kind, offset, address, size_bytes)


def _file_offset(segments: tuple[_Segment, ...], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size_bytes:
            return segment.offset + address - segment.address
    raise ElfDamaged(f"no segment of the file holds address {address:#x}")


def _text_at(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()


def _check(content: bytes) -> None:
    if not content.startswith(_MAGIC):
        raise ElfDamaged("not a 64-bit little-endian ELF file")
