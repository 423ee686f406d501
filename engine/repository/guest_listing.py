"""The listing of a recovery point of kind guest: every file, folder and link that it holds, in one object.

Names are bytes, as a guest has them, and are never trusted: whoever writes files by them checks them first.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from engine.file_entry import FileEntry
from engine.repository.errors import RepositoryDamaged

LISTING_VERSION = 1


class GuestEntry(FileEntry, frozen=True, omit_defaults=True):
    """One name in a guest, with where its content is kept."""

    offset: int = 0
    """Where the content begins on the point's disk."""


class GuestListing(Struct, frozen=True):
    """All entries, by path."""

    version: int
    entries: tuple[GuestEntry, ...]


def encode_listing(entries: list[GuestEntry]) -> bytes:
    """The stored form; equal entries give equal bytes, in whatever order they came."""
    by_path = tuple(sorted(entries, key=lambda entry: entry.path))
    return msgspec.msgpack.encode(GuestListing(LISTING_VERSION, by_path), order="deterministic")


def decode_listing(content: bytes, point: str) -> tuple[GuestEntry, ...]:
    """The entries of a listing as it was stored. Raises `RepositoryDamaged`."""
    try:
        listing = msgspec.msgpack.decode(content, type=GuestListing)
    except msgspec.DecodeError as error:
        raise RepositoryDamaged(
            f"The listing of files in {point} does not say what it must: {error}.",
            untouched="Nothing was written.",
            next_step="Use another recovery point: newhope points.",
        ) from error
    if listing.version > LISTING_VERSION:
        raise RepositoryDamaged(
            f"The listing of files in {point} has version {listing.version}: it was made by a newer newhope.",
            untouched="Nothing was written.",
            next_step="Read it with that version.",
        )
    return listing.entries
