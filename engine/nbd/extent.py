"""Extents: what a server says of a range of its export, and the arithmetic on lists of them.

All functions take extents in the order of their offsets and give them in that order, one by one, so that a map of
any length costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

BASE_ALLOCATION = "base:allocation"
"""The context that tells data, holes and zeroes."""
STATE_HOLE = 1
"""Not allocated. Reads as zeroes only where `STATE_ZERO` says so too."""
STATE_ZERO = 2
"""Reads as zeroes."""

STATE_DIRTY = 1
"""Written since the bitmap began, in the contexts named `qemu:dirty-bitmap:NAME`."""


def dirty_bitmap_context(name: str) -> str:
    """The context in which QEMU tells the dirty bitmap of that name."""
    return f"qemu:dirty-bitmap:{name}"


class Extent(Struct, frozen=True, gc=False):
    """A range of an export, and the flags that one context gives it."""

    offset: int
    length: int
    flags: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.length

    @property
    def is_zero(self) -> bool:
        """Whether it reads as zeroes, for extents of `BASE_ALLOCATION`."""
        return bool(self.flags & STATE_ZERO)

    @property
    def is_dirty(self) -> bool:
        """Whether it was written, for extents of a dirty bitmap."""
        return bool(self.flags & STATE_DIRTY)


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join neighbours that touch and have the same flags; drop empty ones."""
    offset = length = flags = 0
    for extent in extents:
        if extent.length and length and extent.flags == flags and extent.offset == offset + length:
            length += extent.length
        elif extent.length:
            if length:
                yield Extent(offset, length, flags)
            offset, length, flags = extent.offset, extent.length, extent.flags
    if length:
        yield Extent(offset, length, flags)


def clip(extents: Iterable[Extent], offset: int, length: int) -> Iterator[Extent]:
    """Keep only what lies within the range; extents across its borders are cut there."""
    end = offset + length
    for extent in extents:
        if extent.offset >= end:
            return
        begin, stop = max(extent.offset, offset), min(extent.end, end)
        if begin < stop:
            yield Extent(begin, stop - begin, extent.flags)


def cover(extents: Iterable[Extent], offset: int, length: int, flags: int = 0) -> Iterator[Extent]:
    """The range without gaps: clipped, merged, and what no extent speaks of gets `flags` (0: data)."""
    return merge(_filled(clip(extents, offset, length), offset, offset + length, flags))


def _filled(extents: Iterable[Extent], position: int, end: int, flags: int) -> Iterator[Extent]:
    for extent in extents:
        if extent.offset > position:
            yield Extent(position, extent.offset - position, flags)
        # An extent that begins before its forerunner's end would tell one byte twice: the first word counts.
        begin = max(extent.offset, position)
        if extent.end > begin:
            yield Extent(begin, extent.end - begin, extent.flags)
            position = extent.end
    if position < end:
        yield Extent(position, end - position, flags)
