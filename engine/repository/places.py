"""From the location of a repository, as text, to its storage."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from pathlib import Path

from engine.errors import Conflict, NewhopeError
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import ObjectExists, RepositoryMissing, StorageFailed
from engine.repository.key_slots import is_slot_key
from engine.repository.s3_address import S3Address, is_s3
from engine.repository.storage import Storage

__all__ = ["PROBE", "empty_s3", "is_s3", "refuse_overwriting", "s3_at", "storage_at"]

PROBE = "probe/"
"""Where a storage test keeps its objects for the moment that it takes."""


def s3_at(location: str) -> Storage:
    """The storage at an `s3://` address."""
    # Loaded when it is needed: the library for S3 starts threads of its own.
    from engine.repository.s3_storage import S3Storage

    return S3Storage(S3Address.parse(location))


def empty_s3(location: str) -> Storage:
    """The storage at an `s3://` address that a repository is to be made of; raises `Conflict` if it is in use."""
    storage = s3_at(location)
    keys = (entry.key for entry in storage.list(""))
    found = list(islice((key for key in keys if not key.startswith(PROBE) and not is_slot_key(key)), 3))
    if "newhope-repository" not in found and found:
        raise Conflict(
            f"{storage.location} is not empty: it holds {', '.join(found)}.",
            next_step="Give the repository a prefix of its own: s3://BUCKET/PREFIX.",
        )
    return storage


def storage_at(location: Path | str) -> Storage:
    """The storage at a location that need not be a repository yet; a folder must exist."""
    if is_s3(location):
        return s3_at(str(location))
    folder = Path(location)
    if not folder.is_dir():
        raise RepositoryMissing(
            f"There is no folder {folder}.", next_step=f"Make it (mkdir -p {folder}); is its file system mounted?"
        )
    return DirectoryStorage(folder)


def refuse_overwriting(storage: Storage, key: str) -> None:
    """Try to create an object that was just created; if the storage lets that win, take it away and raise.

    Two writers would overwrite each other's objects there without either noticing. Some servers that speak S3 ignore
    `If-None-Match`.
    """
    try:
        # Not the same content: a create that met itself, after an answer that got lost, counts as done.
        storage.create(key, storage.read(key) + b"\nsecond\n")
    except ObjectExists:
        return
    except NewhopeError:
        # Nobody knows whether it would have won, so nobody may begin to rely on it.
        with suppress(NewhopeError):
            storage.delete(key)
        raise
    storage.delete(key)
    raise StorageFailed(
        f"{storage.location} lets a second object take the place of a first: it ignores conditional creation "
        "(If-None-Match).",
        untouched="No repository was made there; what the attempt left was removed.",
        next_step="Use a server that has it (AWS, MinIO, Ceph RGW); newhope repo test-storage shows what else holds.",
    )
