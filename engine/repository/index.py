"""All index files of a repository as one lookup, and what keeps their number small.

- Files are looked up newest first. A file that another one says it supersedes is ignored.
- Index files are a convenience, packs are the truth: where a block is not found, or not where an index says, the packs
  that no sound index file covers are asked for their own indexes (`recover`), and reading goes on.
- Merging writes the new file durably first. The old ones are removed a day later by somebody's next merge: until then
  whoever listed them before can still open them. A file that was opened, and is gone, is made up for by looking anew.
- Few files count at any time, however long a writer writes: a look-up of a new block asks every one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple, TypeVar

from engine.errors import NewhopeError
from engine.repository.errors import ObjectExists, ObjectMissing, Unsound
from engine.repository.index_file import IndexFile, Location, index_content, index_key
from engine.repository.index_merge import write_merged
from engine.repository.model import DamagedObject
from engine.repository.pack import PackEntry, SealedPack, pack_id_of, pack_key, read_pack_index, scan_pack
from engine.repository.storage import Storage

MERGE_AT = 8
MERGE_AT_LEAST = 4
LOOKS = 3
LIST_PACKS_AT = 256
"""Of so many packs the size was asked for one by one; a list tells of a thousand in one request."""
REMOVE_AFTER_US = 24 * 3600 * 1_000_000
RECOVERED_PACKS_A_FILE = 256

_T = TypeVar("_T")


class _Header(NamedTuple):
    """What must be known of a file even when it does not count: it is not kept open for that."""

    created_us: int
    superseded: tuple[str, ...]


class Index:
    """Where every block lies. Safe for any number of threads: lookups work on a tuple that is replaced as a whole."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._merging = threading.Lock()
        """Held by who merges; who finds it held need not."""
        self._headers: dict[str, _Header] = {}
        """Of every sound file that is there."""
        self._opened: dict[str, IndexFile] = {}
        """The files that count."""
        self._files: tuple[IndexFile, ...] = ()
        self._recovered: tuple[IndexFile, ...] = ()
        self._unsound: dict[str, str] = {}
        self._pack_sizes: dict[bytes, int] = {}
        """Of the packs that were looked at since `spare`; -1 for one that is not there."""
        self._packs_listed = False
        self._listing = threading.Lock()
        """Held by who lists packs; who needs one that was not looked at waits for it."""
        self._condemned: frozenset[bytes] = frozenset()

    @property
    def damaged(self) -> tuple[DamagedObject, ...]:
        """Index files that are passed over, and why."""
        return tuple(DamagedObject(index_key(name), reason) for name, reason in sorted(self._unsound.items()))

    def refresh(self) -> None:
        """See the index files that are there now."""
        with self._lock:
            sizes = {entry.key.rpartition("/")[2]: entry.size_bytes for entry in self._storage.list("index/")}
            self._headers = {name: header for name, header in self._headers.items() if name in sizes}
            self._unsound = {name: reason for name, reason in self._unsound.items() if name in sizes}
            opened = {name: file for name, file in self._opened.items() if name in sizes}
            for name in sizes.keys() - self._headers.keys() - self._unsound.keys():
                self._open(name, sizes[name], opened)
            self._choose(opened, sizes)

    def spare(self, condemned: Collection[bytes]) -> None:
        """Lean on none of these packs from now on, and look anew whether the others are there.

        For a new writer, once its lease is durable: what an earlier one saw may have been collected since.
        """
        with self._lock:
            self._condemned |= frozenset(condemned)
            self._pack_sizes = {}
            self._packs_listed = False

    def files(self) -> tuple[IndexFile, ...]:
        """The index files that count, and those that `recover` made in memory."""
        return (*self._files, *self._recovered)

    def stored_files(self) -> tuple[IndexFile, ...]:
        """The index files of the repository that count."""
        return self._files

    def forget(self, gone: Collection[bytes]) -> None:
        """Replace the files that tell of packs that were collected."""
        self.refresh()
        stale = [file for file in self._files if any(pack in gone for pack, _ in file.packs()) and self._trusted(file)]
        if stale:
            write_merged(self._storage, stale, now_us(), gone)
            self.refresh()

    def find(self, name: bytes) -> list[Location]:
        """Every place where a block should lie, newest first."""
        return self._with_files_of_now(lambda: self._find(name))

    def stored(self, name: bytes) -> bool:
        """Whether a block need not be stored again: it is indexed in a pack that is there with its full size.

        Each pack is looked at once a writer: a new recovery point must not lean on a pack that was lost, nor on one
        that is condemned (`collection` says why).
        """
        return self._with_files_of_now(lambda: self._stored(name))

    def present(self, name: bytes) -> bool:
        """Whether a block can be read, as far as sizes tell: a pack that is there with its full size holds it."""
        return any(self._size_of(place.pack) == place.pack_size for place in self.find(name))

    def add(self, packs: list[SealedPack]) -> None:
        """Write an index file over packs that are durable."""
        with suppress(ObjectExists):
            content = index_content(packs, now_us())
            file = IndexFile.of(content)
            self._storage.create(index_key(file.id), content)
        self.refresh()

    def totals(self) -> tuple[int, int, int]:
        """Packs, their bytes, and blocks, as the index files tell."""
        packs = {pack for file in self._files for pack in file.packs()}
        return len(packs), sum(size for _, size in packs), sum(file.count for file in self._files)

    def merge(self) -> None:
        """Replace many small files by one, and remove what was superseded long ago."""
        self.merge_if_many()
        self._remove_superseded()

    def merge_if_many(self) -> None:
        """Replace many small files by one."""
        if not self._merging.acquire(blocking=False):
            return
        try:
            self.refresh()
            # A flipped bit in a record would get a new, valid name by being copied.
            chosen = [file for file in self._to_merge() if self._trusted(file)]
            if len(chosen) > 1:
                newest_first = sorted(chosen, key=lambda file: file.created_us, reverse=True)
                write_merged(self._storage, newest_first, now_us())
                self.refresh()
        finally:
            self._merging.release()

    def recover(self) -> None:
        """Check every index file to the last bit, and index anew, in memory, the packs that no sound one covers."""
        self.refresh()
        with self._lock:
            for file in self._files:
                self._trusted(file)
            self._choose(self._opened, {})
            covered = {pack_id for file in self._files for pack_id, _ in file.packs()}
        recovered: list[IndexFile] = []
        packs: list[SealedPack] = []
        for entry in self._storage.list("packs/"):
            pack_id = pack_id_of(entry.key)
            if pack_id is None or pack_id in covered:
                continue
            packs.append(SealedPack(pack_id, entry.size_bytes, self._entries(entry.key)))
            if len(packs) == RECOVERED_PACKS_A_FILE:
                recovered.append(IndexFile.of(index_content(packs, 0)))
                packs = []
        recovered.append(IndexFile.of(index_content(packs, 0)))
        self._recovered = tuple(recovered)

    def _find(self, name: bytes) -> list[Location]:
        found: list[Location] = []
        for file in (*self._files, *self._recovered):
            with suppress(Unsound):
                found += file.find(name)
        return found

    def _stored(self, name: bytes) -> bool:
        for file in self._files:
            with suppress(Unsound):
                if any(self._pack_there(place) for place in file.find(name)):
                    return True
        return False

    def _with_files_of_now(self, look_up: Callable[[], _T]) -> _T:
        """A look-up, once more with the files of now if one that was merged long ago has been removed meanwhile."""
        for _ in range(LOOKS):
            try:
                return look_up()
            except ObjectMissing:
                self.refresh()
        return look_up()

    def _to_merge(self) -> list[IndexFile]:
        """The smallest files, and each that is not larger than those before it together."""
        files = sorted(self._files, key=lambda file: file.count)
        if len(files) < MERGE_AT:
            return []
        chosen = files[:MERGE_AT_LEAST]
        total = sum(file.count for file in chosen)
        for file in files[MERGE_AT_LEAST:]:
            if file.count > total:
                break
            chosen.append(file)
            total += file.count
        return chosen

    def _open(self, name: str, size_bytes: int | None, opened: dict[str, IndexFile]) -> None:
        try:
            file = opened[name] = IndexFile(name, self._storage.ranges(index_key(name), size_bytes))
            self._headers[name] = _Header(file.created_us, file.superseded)
        except Unsound as reason:
            self._unsound[name] = str(reason)
        except ObjectMissing:
            # Removed since it was listed.
            self._headers.pop(name, None)

    def _entries(self, key: str) -> tuple[PackEntry, ...]:
        try:
            return read_pack_index(self._storage, key)
        except Unsound:
            return tuple(scan_pack(self._storage, key))
        except NewhopeError:
            return ()

    def _pack_there(self, place: Location) -> bool:
        if place.pack in self._condemned:
            return False
        return self._size_of(place.pack) == place.pack_size

    def _size_of(self, pack: bytes) -> int:
        size = self._pack_sizes.get(pack)
        return self._pack_size(pack) if size is None else size

    def _pack_size(self, pack: bytes) -> int:
        """How large a pack is that was not looked at yet. Who asks for many is better off with a list of all."""
        sizes = self._pack_sizes
        if len(sizes) >= LIST_PACKS_AT and not self._packs_listed:
            with self._listing:
                if not self._packs_listed:
                    for entry in self._storage.list("packs/"):
                        if listed := pack_id_of(entry.key):
                            sizes.setdefault(listed, entry.size_bytes)
                    self._packs_listed = True
        if pack not in sizes:
            try:
                sizes[pack] = self._storage.size(pack_key(pack))
            except ObjectMissing:
                sizes[pack] = -1
        return sizes[pack]

    def _trusted(self, file: IndexFile) -> bool:
        if file.id not in self._unsound and not file.sound():
            self._unsound[file.id] = "its content does not match its name"
        return file.id not in self._unsound

    def _choose(self, opened: dict[str, IndexFile], sizes: dict[str, int]) -> None:
        """Let those files count that are sound and not superseded, and close the others."""
        sound = {name: header for name, header in self._headers.items() if name not in self._unsound}
        superseded = {name for header in sound.values() for name in header.superseded}
        for name in sound.keys() - superseded - opened.keys():
            # It was superseded by a file that turned out to be unsound.
            self._open(name, sizes.get(name), opened)
        self._opened = {name: file for name, file in opened.items() if name in sound and name not in superseded}
        self._files = tuple(sorted(self._opened.values(), key=lambda file: file.created_us, reverse=True))

    def _remove_superseded(self) -> None:
        oldest = now_us() - REMOVE_AFTER_US
        for name, header in list(self._headers.items()):
            waiting = [old for old in header.superseded if old in self._headers]
            if waiting and header.created_us < oldest and self._sound(name):
                for old in waiting:
                    self._storage.delete(index_key(old))

    def _sound(self, name: str) -> bool:
        """Whether a file is sound to the last bit, be it one that counts or not."""
        opened: dict[str, IndexFile] = {}
        if name not in self._opened and name not in self._unsound:
            self._open(name, None, opened)
        file = self._opened.get(name) or opened.get(name)
        return file is not None and self._trusted(file)


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
