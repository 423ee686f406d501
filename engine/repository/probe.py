"""Whether a place keeps what the repository format relies on: each property tried out, with what was seen.

1. `read-after-write`: what was created is read at once, whole and in ranges.
2. `no-overwrite`: a second create of one name is refused and changes nothing.
3. `one-winner`: of several that create one name at the same moment, exactly one succeeds, and its content stays.
4. `whole-objects`: while an object is being written nobody sees a part of it, nor after it was given up.
5. `listing`: a listing shows at once what was created and no more what was deleted, in the order of names.
6. `deletion`: objects can be deleted. Without it everything works but collection (append-only use).
7. `clock`: the storage's clock and this machine's agree within a minute. Leases tell others when they end.
8. `durability`: an object that was created survives a power cut. It cannot be tried out; this checks that what it needs
   is there (fsync of files and folders, links, a file system that is known to keep its word).

A place is fit for a repository if nothing that is *needed* fails. All objects of a test lie below `probe/` and are
deleted in the end; nothing else is touched, and a test may run beside writers.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from engine.errors import NewhopeError
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import ObjectExists, ObjectMissing
from engine.repository.mounted import file_system_of
from engine.repository.places import PROBE, storage_at
from engine.repository.storage import Storage

RIVALS = 6
ROUNDS = 3
LISTED = 12
WHOLE_BYTES = 4 << 20
CLOCK_LIMIT = timedelta(seconds=60)
KEEPS_ITS_WORD = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "nfs", "nfs4", "ceph"}
FORGETS = {"tmpfs", "ramfs"}


class Verdict(StrEnum):
    """What a test of a property found."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
    """It cannot be tried out from here."""
    UNTRIED = "untried"
    """The storage failed before it was tried to the end."""


class PropertyCheck(Struct, frozen=True):
    """One property of a place."""

    name: str
    verdict: Verdict
    evidence: str
    """What was seen."""
    needed: bool
    """Whether a repository cannot be kept there without it."""


class StorageTest(Struct, frozen=True):
    """What a place was found to keep."""

    location: str
    checks: tuple[PropertyCheck, ...]

    @property
    def fit(self) -> bool:
        """Whether a repository can be kept there."""
        return not any(check.needed and check.verdict in (Verdict.FAILS, Verdict.UNTRIED) for check in self.checks)


def try_storage(location: Path | str) -> StorageTest:
    """Try out a folder or an `s3://` address, which need not be a repository yet.

    Raises a `NewhopeError` if it cannot be reached, or not be written to, at all.
    """
    storage = storage_at(location)
    try:
        return try_out(storage)
    finally:
        if isinstance(storage, DirectoryStorage):
            with suppress(OSError):
                (storage.folder / PROBE).rmdir()


def try_out(storage: Storage) -> StorageTest:
    """Try out a storage."""
    probe = _Probe(storage)
    tests: tuple[tuple[str, Callable[[], tuple[Verdict, str]], bool], ...] = (
        ("read-after-write", probe.read_after_write, True),
        ("no-overwrite", probe.no_overwrite, True),
        ("one-winner", probe.one_winner, True),
        ("whole-objects", probe.whole_objects, True),
        ("listing", probe.listing, True),
        ("deletion", probe.deletion, False),
        ("clock", probe.clock, False),
        ("durability", probe.durability, True),
    )
    # Whether it can be reached and written to at all; if not, one sentence says it better than eight verdicts.
    probe.create("reach", b"")
    try:
        return StorageTest(storage.location, tuple(_checked(*test) for test in tests))
    finally:
        probe.clear()


def _checked(name: str, test: Callable[[], tuple[Verdict, str]], needed: bool) -> PropertyCheck:
    try:
        verdict, evidence = test()
    except NewhopeError as error:
        # Not a property that fails: the next try may get to its end.
        verdict, evidence = Verdict.UNTRIED, error.what
    return PropertyCheck(name, verdict, evidence, needed)


class _Probe:
    """One test: its objects, and the properties in the order in which they are tried."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._id = secrets.token_hex(6)
        self._keys: set[str] = set()

    def create(self, name: str, content: bytes) -> str:
        """Create an object of this test; its key."""
        key = self._key(name)
        self._storage.create(key, content)
        return key

    def clear(self) -> None:
        """Delete what is left. Where deleting is refused it stays; nothing reads it."""
        for key in self._keys:
            with suppress(NewhopeError):
                self._storage.delete(key)

    def read_after_write(self) -> tuple[Verdict, str]:
        content = secrets.token_bytes(100_000)
        for number in range(4):
            key = self.create(f"read-{number}", content)
            try:
                whole, part, size = self._storage.read(key), self._storage.read(key, 777, 1000), self._storage.size(key)
            except ObjectMissing:
                return Verdict.FAILS, f"object {number + 1} of 4 was not there right after it was created"
            if (whole, part, size) != (content, content[777:1777], len(content)):
                return Verdict.FAILS, f"object {number + 1} of 4 was read with other bytes than were written"
        return Verdict.HOLDS, "4 objects were read back at once, whole and in ranges"

    def no_overwrite(self) -> tuple[Verdict, str]:
        key = self.create("twice", b"first")
        try:
            self._storage.create(key, b"second")
        except ObjectExists:
            pass
        else:
            return Verdict.FAILS, "a second create of one name succeeded: conditional creation is ignored"
        kept = self._storage.read(key)
        if kept != b"first":
            return Verdict.FAILS, "a second create of one name was refused, but changed the object"
        return Verdict.HOLDS, "a second create of one name was refused and changed nothing"

    def one_winner(self) -> tuple[Verdict, str]:
        for number in range(ROUNDS):
            key = self._key(f"race-{number}")
            winners, failures = self._race(key)
            if failures:
                raise failures[0]
            if len(winners) != 1:
                return (
                    Verdict.FAILS,
                    f"{len(winners)} of {RIVALS} who created one name at once were told: done",
                )
            if self._storage.read(key) != winners[0]:
                return Verdict.FAILS, "the content of one who was refused stayed"
        return Verdict.HOLDS, f"{ROUNDS} times, of {RIVALS} who created one name at once exactly one succeeded"

    def _race(self, key: str) -> tuple[list[bytes], list[NewhopeError]]:
        gate = threading.Barrier(RIVALS)
        winners: list[bytes] = []
        failures: list[NewhopeError] = []

        def create(number: int) -> None:
            content = b"rival %d" % number
            gate.wait()
            try:
                self._storage.create(key, content)
                winners.append(content)
            except ObjectExists:
                return
            except NewhopeError as error:
                failures.append(error)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(RIVALS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return winners, failures

    def whole_objects(self) -> tuple[Verdict, str]:
        content = secrets.token_bytes(1 << 16) * (WHOLE_BYTES >> 16)
        key, given_up = self._key("whole"), self._storage.open_new()
        given_up.write(content)
        given_up.abandon()
        new = self._storage.open_new()
        try:
            new.write(content)
            if self._listed():
                return Verdict.FAILS, "an object was listed before it was finished"
            over = threading.Event()
            partial: list[int] = []
            watcher = threading.Thread(target=self._watch, args=(key, len(content), over, partial))
            watcher.start()
            try:
                new.finish(key)
            finally:
                over.set()
                watcher.join()
        finally:
            new.abandon()
        if partial:
            return Verdict.FAILS, f"{partial[0]} of {len(content)} bytes of an unfinished object were seen"
        if self._storage.read(key) != content:
            return Verdict.FAILS, "an object written in pieces was not what was written"
        return Verdict.HOLDS, f"an object of {WHOLE_BYTES >> 20} MiB was seen whole or not at all while it was written"

    def _watch(self, key: str, size: int, over: threading.Event, partial: list[int]) -> None:
        while not over.wait(0.005):
            with suppress(NewhopeError):
                if (seen := self._storage.size(key)) != size:
                    partial.append(seen)

    def _listed(self) -> list[str]:
        mine = f"{PROBE}{self._id}-whole"
        return [entry.key for entry in self._storage.list(PROBE) if entry.key.startswith(mine)]

    def listing(self) -> tuple[Verdict, str]:
        made = sorted(self.create(f"list-{number:03}", b"x" * number) for number in range(LISTED))
        start = f"{PROBE}{self._id}-list-"
        seen = [(entry.key, entry.size_bytes) for entry in self._storage.list(PROBE) if entry.key.startswith(start)]
        if sorted(seen) != [(key, number) for number, key in enumerate(made)]:
            return Verdict.FAILS, f"of {LISTED} new objects the listing showed {len(seen)}, or with wrong sizes"
        if seen != sorted(seen):
            return Verdict.FAILS, "the listing was not in the order of names"
        shown = f"{LISTED} new objects were listed at once and in order"
        try:
            self._storage.delete(made[0])
        except NewhopeError:
            return Verdict.HOLDS, f"{shown}; nothing could be deleted to see it go"
        if any(entry.key == made[0] for entry in self._storage.list(PROBE)):
            return Verdict.FAILS, "a deleted object was still listed"
        return Verdict.HOLDS, f"{shown}, and no more when deleted"

    def deletion(self) -> tuple[Verdict, str]:
        key = self.create("delete", b"x")
        try:
            self._storage.delete(key)
        except NewhopeError as error:
            return Verdict.FAILS, f"append-only: nothing can be collected with these rights ({error.what})"
        try:
            self._storage.size(key)
        except ObjectMissing:
            return Verdict.HOLDS, "an object that was deleted was gone at once"
        return Verdict.FAILS, "an object was still there after it was deleted"

    def clock(self) -> tuple[Verdict, str]:
        before = datetime.now(UTC)
        key = self.create("clock", b"x")
        after = datetime.now(UTC)
        theirs = self._storage.created_at(key)
        # Theirs is known in whole seconds, and anything between our two looks is no difference at all.
        apart = max(before - theirs - timedelta(seconds=1), theirs - after, timedelta(0))
        way = "behind" if theirs < before else "ahead"
        seen = f"its clock is {apart.total_seconds():.0f} s {way}" if apart else "its clock agrees with this machine's"
        return (Verdict.HOLDS if apart <= CLOCK_LIMIT else Verdict.FAILS), seen

    def durability(self) -> tuple[Verdict, str]:
        if not isinstance(self._storage, DirectoryStorage):
            return Verdict.UNKNOWN, "object storage answers when an object is stored; how safely is its own affair"
        # Each create so far synced its file and its folder and linked the name, or it would have raised.
        kind = file_system_of(self._storage.folder)
        synced = "files and folders can be synced and linked"
        if kind in FORGETS:
            return Verdict.FAILS, f"{kind} is memory: everything is gone when the machine stops"
        if kind in KEEPS_ITS_WORD:
            return Verdict.HOLDS, f"{synced} on {kind}"
        return Verdict.UNKNOWN, f"{synced}, but whether {kind or 'this file system'} keeps its word is not known"

    def _key(self, name: str) -> str:
        key = f"{PROBE}{self._id}-{name}"
        self._keys.add(key)
        return key
