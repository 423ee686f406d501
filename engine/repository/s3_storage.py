"""Objects in a bucket of S3-compatible storage: created by one conditional request each, never overwritten.

1. An object is one `PUT` with `If-None-Match: *`: the server stores it whole under its name, or refuses with 412.
   Nothing else of S3 is relied on: no `If-Match`, no copy, no multipart upload (which could not be conditional
   everywhere, and leaves invisible parts behind when a writer dies).
2. An object whose name is known only at its end (a pack is named by its hash) is written to a file of this machine that
   has no name, so that it vanishes with its process; `finish` maps that file and sends it. Nothing is ever left over.
3. A request that got no sound answer is tried again, with pauses (`patience`). A create that is refused *after* such a
   try may have met itself: then the stored object is compared with ours, and is ours if it is equal.
4. Listings are paged by the server; a page that fails is asked for again from the last name that was seen.

Stores that ignore `If-None-Match` exist; `Repository.create` and `newhope repo test-storage` find them out.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict, TypeVar, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from engine.errors import NewhopeError, NoSpace
from engine.repository.bucket_ranges import BucketRanges, Pages
from engine.repository.errors import ObjectMissing, StorageFailed
from engine.repository.patience import NO_PATIENCE, Patience, Tries
from engine.repository.ranges import FileRanges, HeldRanges, Ranges
from engine.repository.read_ahead import ReadAhead
from engine.repository.s3_address import S3Address
from engine.repository.s3_credentials import S3Access, find_access
from engine.repository.s3_failures import COMPLETE_STAYS, Failure, Trouble, explain, read_failure
from engine.repository.storage import Bytes, ObjectEntry

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

_T = TypeVar("_T")
_FAILURES = (BaseError, OSError)
"""The library's own, and `FileNotFoundError` where there is no such object."""
PAGE = 1000
STRETCH_BYTES = 8 << 20
SMALL_BYTES = 64 << 10
SPOOL_BUFFER_BYTES = 1 << 20
CONNECT_S = 10.0
USUAL_PATIENCE = Patience()
FIRST_CONTACT_S = 15.0
"""How long to try a server that has never answered: its address is more likely wrong than its answer late."""
READ_IN_A_ROW = "packs/"
"""Objects of which a restore reads many neighbouring pieces."""
SETTLES_S = 3600.0
"""A guess on the far side: servers and proxies give up on a request after minutes at most."""
QUICK_BYTES = 10 << 20
"""What must be through within the shortest time limit: 10 MiB in 30 s is 350 kB/s."""


class _Meta(TypedDict):
    path: str
    size: int
    last_modified: datetime


class S3Storage:
    """Keeps objects below a prefix of a bucket."""

    def __init__(self, address: S3Address, *, patience: Patience = USUAL_PATIENCE, timeout_s: float = 30.0) -> None:
        self._address = address
        self._access = find_access(address, os.environ)
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._patience = patience
        self._timeout_s = timeout_s
        self._answered = False
        self._lock = threading.Lock()
        """Guards the stores, which are made when they are first needed."""
        self._stores: dict[int, S3Store] = {}
        self._ahead = ReadAhead(lambda key, offset, length: self._read(key, offset, length, patience))
        self._pages = Pages()

    @property
    def location(self) -> str:
        """The address, with the server where it was found in the environment."""
        address = self._address
        return str(S3Address(address.bucket, address.prefix, self._access.endpoint, address.region, address.profile))

    @property
    def settles_s(self) -> float:
        """A request that was on its way, or stuck in a proxy, may be done long after its sender has died."""
        return SETTLES_S

    def create(self, key: str, content: Bytes) -> None:
        """Create a small object."""
        self.put(key, content)

    def open_new(self) -> NewUpload:
        """Begin an object that is written piece by piece."""
        return NewUpload(self)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range; shorter than asked only where the object ends."""
        if length and key.startswith(READ_IN_A_ROW):
            return self._ahead.read(key, offset, length)
        return self._read(key, offset, length, self._patience)

    def map(self, key: str) -> mmap | bytes:
        """The object, fetched into a nameless file that is mapped: costs page cache, no heap."""
        size = self.size(key)
        if size <= SMALL_BYTES:
            return self.read(key) if size else b""
        with self._fetched(key, size) as file, spooling(self.location):
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def ranges(self, key: str, size_bytes: int | None = None) -> BucketRanges:
        """The object, of which what is looked at is fetched: pages, or the whole once these cost as much."""
        size = self.size(key) if size_bytes is None else size_bytes

        def fetch(offset: int, length: int) -> bytes:
            return self._read(key, offset, length, self._patience)

        def fetch_all() -> Ranges:
            if size <= SMALL_BYTES:
                return HeldRanges(self.read(key) if size else b"")
            with self._fetched(key, size) as file, spooling(self.location):
                return FileRanges(os.dup(file.fileno()), lambda error: _spool_trouble(error, self.location))

        return BucketRanges(key, size, self._pages, fetch, fetch_all)

    def size(self, key: str) -> int:
        """Size in bytes."""
        return self._head(key, self._patience)["size"]

    def created_at(self, key: str) -> datetime:
        """When an object was created, by the server's clock, in whole seconds."""
        return self._head(key, self._patience)["last_modified"]

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        """Finished objects below a prefix, in the order of their keys."""
        tries = Tries(self._patience)
        last: str | None = None
        pages = self._listed(prefix, last)
        while True:
            try:
                page = next(pages, None)
            except _FAILURES as error:
                failure = read_failure(error)
                if not self._again(failure, tries):
                    raise explain(failure, "list", "", self.location, tried=tries.failures or 1) from error
                pages = self._listed(prefix, last)
                continue
            if page is None:
                return
            self._answered = True
            tries.succeeded()
            for meta in page:
                last = meta["path"]
                yield ObjectEntry(last.removeprefix(self._prefix), meta["size"])

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        with suppress(ObjectMissing):
            self._try("delete", key, lambda store: obstore.delete(store, self._prefix + key), self._patience)

    def clear_leftovers(self) -> int:
        """Nothing to clear: an object is one request, and what it is made of vanishes with its process."""
        return 0

    def free_bytes(self) -> int | None:
        """Not known: object storage does not tell."""
        return None

    def put(self, key: str, content: Bytes | mmap) -> None:
        """Create an object by one conditional request. See step 3 above."""
        store = self._store(len(content))
        tries = Tries(self._patience)
        may_be_done = False
        while True:
            try:
                obstore.put(store, self._prefix + key, content, mode="create", use_multipart=False)
            except _FAILURES as error:
                failure = read_failure(error)
                if failure.trouble is Trouble.EXISTS and may_be_done and self._same(key, content, self._patience):
                    return
                may_be_done = may_be_done or failure.may_be_done
                if self._again(failure, tries):
                    continue
                if may_be_done and failure.trouble is not Trouble.EXISTS:
                    with suppress(NewhopeError):
                        if self._same(key, content, NO_PATIENCE):
                            return
                raise explain(failure, "create", key, self.location, tried=tries.failures or 1) from error
            self._answered = True
            return

    def _read(self, key: str, offset: int, length: int | None, patience: Patience) -> bytes:
        if length is not None and length <= 0:
            self._head(key, patience)
            return b""
        path = self._prefix + key

        def fetch(store: S3Store) -> bytes:
            if length is not None:
                return bytes(obstore.get_range(store, path, start=offset, length=length))
            if offset:
                return bytes(obstore.get(store, path, options={"range": {"offset": offset}}).bytes())
            return bytes(obstore.get(store, path).bytes())

        try:
            return self._try("read", key, fetch, patience, size=length or STRETCH_BYTES)
        except _BeyondEnd:
            return b""

    def _head(self, key: str, patience: Patience) -> _Meta:
        return self._try("read", key, lambda store: cast("_Meta", obstore.head(store, self._prefix + key)), patience)

    @contextmanager
    def _fetched(self, key: str, size: int) -> Generator[IO[bytes]]:
        with spool(self.location) as file:
            for offset in range(0, size, STRETCH_BYTES):
                stretch = self._read(key, offset, min(STRETCH_BYTES, size - offset), self._patience)
                if not stretch:
                    break
                with spooling(self.location):
                    file.write(stretch)
            with spooling(self.location):
                file.flush()
            yield file

    def _listed(self, prefix: str, after: str | None) -> Iterator[list[_Meta]]:
        whole = f"{self._prefix}{prefix}" or None
        # One of its overloads speaks of a library that is not installed.
        list_objects = cast("Callable[..., object]", obstore.list)  # pyright: ignore[reportUnknownMemberType]
        pages = list_objects(self._store(0), whole, offset=after, chunk_size=PAGE)
        return cast("Iterator[list[_Meta]]", pages)

    def _same(self, key: str, content: Bytes | mmap, patience: Patience) -> bool:
        """Whether the stored object is the one that was to be created."""
        if self._head(key, patience)["size"] != len(content):
            return False
        return all(
            self._read(key, offset, STRETCH_BYTES, patience) == bytes(content[offset : offset + STRETCH_BYTES])
            for offset in range(0, len(content), STRETCH_BYTES)
        )

    def _try(self, doing: str, key: str, work: Callable[[S3Store], _T], patience: Patience, *, size: int = 0) -> _T:
        store = self._store(size)
        tries = Tries(patience)
        while True:
            try:
                result = work(store)
            except _FAILURES as error:
                failure = read_failure(error)
                if failure.trouble is Trouble.BEYOND_END:
                    raise _BeyondEnd from error
                if not self._again(failure, tries):
                    raise explain(failure, doing, key, self.location, tried=tries.failures or 1) from error
                continue
            self._answered = True
            return result

    def _again(self, failure: Failure, tries: Tries) -> bool:
        """Whether to try once more; waits before it says so."""
        if failure.status:
            self._answered = True
        if not failure.worth_another_try:
            return False
        if not self._answered and tries.lasted_s > FIRST_CONTACT_S:
            return False
        return tries.wait()

    def _store(self, size: int) -> S3Store:
        """A client for requests of so many bytes: up to 10 MiB have `timeout_s`, eight times more eight times that."""
        step = 0
        while size > QUICK_BYTES << (3 * step):
            step += 1
        with self._lock:
            if step not in self._stores:
                self._stores[step] = _client(self._address, self._access, self._timeout_s * 8**step)
            return self._stores[step]


class _BeyondEnd(Exception):
    """A range was asked for that begins behind the object's end."""


class NewUpload:
    """A nameless file of this machine that becomes an object. See step 2 above."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage
        self._file = spool(storage.location)
        self._open = True

    def write(self, *pieces: Bytes) -> None:
        """Append the pieces."""
        with spooling(self._storage.location):
            self._file.writelines(pieces)

    def finish(self, key: str) -> None:
        """Send it, to appear under its name."""
        try:
            with spooling(self._storage.location):
                self._file.flush()
                size = self._file.tell()
                content = mmap(self._file.fileno(), 0, access=ACCESS_READ) if size else b""
            self._storage.put(key, content)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file, which vanishes."""
        if self._open:
            self._open = False
            with suppress(OSError):
                self._file.close()


def spool(location: str) -> IO[bytes]:
    """A file without a name, for what is on its way to or from the bucket."""
    with spooling(location):
        return tempfile.TemporaryFile(buffering=SPOOL_BUFFER_BYTES, dir=_spool_folder())


@contextmanager
def spooling(location: str) -> Generator[None]:
    """Turn this machine's refusals into sentences."""
    try:
        yield
    except OSError as error:
        raise _spool_trouble(error, location) from error


def _spool_trouble(error: OSError, location: str) -> NewhopeError:
    folder = _spool_folder()
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return (NoSpace if full else StorageFailed)(
        f"Could not use a temporary file in {folder} on the way to or from {location}: {error.strerror or error}.",
        untouched=COMPLETE_STAYS,
        next_step=f"Make room there (df -h {folder}), or name another folder in TMPDIR.",
    )


def _spool_folder() -> Path:
    # Not /tmp, which is memory on many systems: a pack of 64 MiB is what this is to keep out of memory.
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108  (the file there has no name)


def _client(address: S3Address, access: S3Access, timeout_s: float) -> S3Store:
    config = {
        "region": access.region,
        "endpoint": access.endpoint,
        "conditional_put": "etag",
        # Single deletes: not every server knows the request that deletes many.
        "disable_bulk_delete": True,
    }
    # Given as a whole, or the library would add what it finds in the environment, such as another login's token.
    keys: S3Credential | None = None
    if access.access_key_id and access.secret_access_key:
        keys = {
            "access_key_id": access.access_key_id,
            "secret_access_key": access.secret_access_key,
            "token": access.session_token,
            "expires_at": None,
        }
    return S3Store(
        address.bucket,
        config=cast("S3Config", {name: value for name, value in config.items() if value is not None}),
        client_options={
            "allow_http": bool(access.endpoint and access.endpoint.startswith("http:")),
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(timeout_s, CONNECT_S)),
        },
        credential_provider=None if keys is None else lambda: keys,
        # Not the library's retries: whether a create may have met itself must be known here.
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)},
    )
