"""What a repository consists of at a moment, every small object of it checked.

The order is the whole point: recovery points first, then index files, then packs. A writer makes packs, then an index
file, then the point; so whatever the points need was there before they were listed, and a writer at work beside is
never mistaken for damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from blake3 import blake3
from msgspec import Struct

from engine.errors import NewhopeError
from engine.repository.condemned import PREFIX as CONDEMNED
from engine.repository.condemned import WITNESSES
from engine.repository.errors import ObjectMissing, StorageFailed, Unsound
from engine.repository.frame import FrameKind, decode_frame
from engine.repository.guards import PREFIX as GUARDS
from engine.repository.healing import unfinished
from engine.repository.identity import IDENTITY_KEY
from engine.repository.index import Index
from engine.repository.index_file import IndexFile, index_key
from engine.repository.key_slots import damaged_slots
from engine.repository.keys import Keys
from engine.repository.lease import leases
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import read_manifest
from engine.repository.model import Point
from engine.repository.pack import pack_id_of, pack_key, read_pack_index
from engine.repository.pending import PREFIX as PENDING
from engine.repository.storage import Storage
from engine.repository.verify_model import Finding, PointName, Severity

RECORDS = "records/"
SEEN = (RECORDS, GUARDS)
FRAMED = (*SEEN, PENDING, CONDEMNED, WITNESSES)
PIECE_BYTES = 4 << 20

Met = Callable[[], None]
"""Called for each object that was read."""


class View(Struct, frozen=True):
    """A repository as it was when it was looked at."""

    points: tuple[Point, ...]
    point_keys: tuple[str, ...]
    """Of every object below `points/`, damaged or not."""
    index: Index
    indexed: frozenset[bytes]
    """Packs that a sound index file names."""
    expected: dict[bytes, int]
    """Packs that an index file in force names, and their sizes."""
    packs: dict[bytes, int]
    """Packs that are there, and their sizes."""
    findings: tuple[Finding, ...]

    def wrong_packs(self) -> dict[bytes, str]:
        """Packs that are not as index files say, with what is wrong."""
        wrong: dict[bytes, str] = {}
        for pack, size in self.expected.items():
            found = self.packs.get(pack)
            if found is None:
                wrong[pack] = "it is missing"
            elif found != size:
                wrong[pack] = f"it has {found} bytes where an index names {size}"
        return wrong

    def same_objects(self, other: View) -> bool:
        """Whether both saw the same points, index files and packs."""
        return (self.point_keys, self.indexed, self.expected, self.packs) == (
            other.point_keys,
            other.indexed,
            other.expected,
            other.packs,
        )


def look(storage: Storage, repository: str, met: Met = lambda: None, keys: Keys | None = None) -> View:
    """Look at everything but records and leases."""
    findings: list[Finding] = []
    point_keys: list[str] = []
    points = tuple(_points(storage, repository, point_keys, findings, met, keys))
    indexed, expected, index_damaged = _index_files(storage, findings, met)
    index = Index(storage)
    index.refresh()
    if index_damaged:
        # Flipped records would lead to wrong places: leave those files out, and ask the packs they named.
        index.recover()
    packs = dict(_packs(storage, findings, met))
    for pack in packs.keys() - indexed:
        findings += _table_of(storage, pack)
    return View(points, tuple(point_keys), index, frozenset(indexed), expected, packs, tuple(findings))


def check_records(
    storage: Storage, met: Met = lambda: None, keys: Keys | None = None
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Keys of all records and guards; what is wrong with them, leases, keys, and what a collection keeps."""
    record_keys: list[str] = []
    findings: list[Finding] = []
    for entry in chain.from_iterable(storage.list(prefix) for prefix in FRAMED):
        met()
        try:
            decode_frame(entry.key, FrameKind.RECORD, storage.read(entry.key), keys)
        except ObjectMissing:
            continue
        except (Unsound, StorageFailed) as reason:
            findings.append(Finding(entry.key, Severity.DAMAGE, _why(storage, reason)))
        if entry.key.startswith(SEEN):
            record_keys.append(entry.key)
    for key in unfinished(storage):
        what = "a repair was stopped while it brought this object back; the next one goes on with it"
        findings.append(Finding(key, Severity.DAMAGE, what))
    for damaged in leases(storage, keys)[1]:
        findings.append(Finding(damaged.key, Severity.DAMAGE, damaged.reason))
    findings += [Finding(damaged.key, Severity.DAMAGE, damaged.reason) for damaged in damaged_slots(storage)]
    return tuple(record_keys), tuple(findings)


def point_name_of_key(key: str) -> PointName:
    """How findings name a recovery point whose manifest cannot be read."""
    vm, _, name = key.removeprefix(POINTS).partition("/")
    time, _, point_id = name.partition("-")
    return PointName(vm, time, point_id)


def _points(
    storage: Storage,
    repository: str,
    point_keys: list[str],
    findings: list[Finding],
    met: Met,
    keys: Keys | None,
) -> Iterator[Point]:
    for entry in storage.list(POINTS):
        met()
        try:
            point = read_manifest(storage, entry.key, repository, keys)
        except ObjectMissing:
            continue
        except (Unsound, StorageFailed) as reason:
            hurt = (point_name_of_key(entry.key),)
            findings.append(Finding(entry.key, Severity.LOSS, _why(storage, reason), hurt))
        else:
            yield point
        point_keys.append(entry.key)


def _index_files(storage: Storage, findings: list[Finding], met: Met) -> tuple[set[bytes], dict[bytes, int], bool]:
    """Packs that sound index files name, those of files in force with their sizes, and whether any is damaged."""
    indexed: set[bytes] = set()
    expected: dict[str, dict[bytes, int]] = {}
    superseded: set[str] = set()
    damaged = False
    for entry in storage.list("index/"):
        met()
        name = entry.key.rpartition("/")[2]
        try:
            if _hash_of(storage, entry.key, entry.size_bytes) != name:
                raise Unsound("its content does not match its name")
            file = IndexFile(name, storage.ranges(index_key(name), entry.size_bytes))
            expected[name] = dict(file.packs())
        except ObjectMissing:
            continue
        except Unsound as reason:
            damaged = True
            findings.append(Finding(entry.key, Severity.DAMAGE, str(reason)))
            continue
        superseded.update(file.superseded)
        indexed |= expected[name].keys()
    in_force = {
        pack: size for name, packs in expected.items() if name not in superseded for pack, size in packs.items()
    }
    return indexed, in_force, damaged


def _hash_of(storage: Storage, key: str, size_bytes: int) -> str:
    # Read, not mapped: of a bad sector below a mapping, the process would die.
    hashed = blake3()
    for offset in range(0, size_bytes, PIECE_BYTES):
        hashed.update(storage.read(key, offset, PIECE_BYTES))
    return hashed.hexdigest()


def _packs(storage: Storage, findings: list[Finding], met: Met) -> Iterator[tuple[bytes, int]]:
    for entry in storage.list("packs/"):
        met()
        pack = pack_id_of(entry.key)
        if pack is None:
            findings.append(Finding(entry.key, Severity.NOTE, "its name is not that of a pack; nothing reads it"))
        else:
            yield pack, entry.size_bytes


def _table_of(storage: Storage, pack: bytes) -> list[Finding]:
    """A pack that no index names has no other witness: at least its table must be sound."""
    try:
        read_pack_index(storage, pack_key(pack))
    except ObjectMissing:
        return []
    except (Unsound, StorageFailed) as reason:
        return [Finding(pack_key(pack), Severity.DAMAGE, _why(storage, reason))]
    return []


def _why(storage: Storage, reason: Exception) -> str:
    if not isinstance(reason, NewhopeError):
        return str(reason)
    # Of a storage that went away as a whole, no object may be called damaged: then this raises.
    storage.read(IDENTITY_KEY)
    return f"it cannot be read: {reason.what}"
