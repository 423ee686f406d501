"""What a repair works on, and what it knows of it: the storage, the index, and the packs not to be leaned on.

A block counts as safe here only if it was read, sound, from a pack that is neither damaged nor condemned. That an
index names it is not enough: an index may lie, and what it leads to may be damaged without anybody knowing yet.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct

from engine.repository.block_record import HEADER_BYTES, block_name, decode_header, decode_record
from engine.repository.condemned import readable_condemned
from engine.repository.errors import ObjectMissing, StorageFailed, Unsound
from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.index_file import Location
from engine.repository.keys import Keys
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import read_manifest
from engine.repository.model import Point
from engine.repository.pack import pack_id_of, pack_key
from engine.repository.storage import Storage


class FoundBlock(Struct, frozen=True):
    """A block that was read back, sound."""

    kind: int
    content: bytes


class Ground:
    """One look of a repair at a repository. For one thread."""

    def __init__(self, storage: Storage, identity: Identity, keys: Keys | None = None) -> None:
        self.storage = storage
        self.identity = identity
        self.keys = keys
        self.index = Index(storage)
        self.condemned: set[bytes] = set()
        self.damaged: set[bytes] = set()
        """Packs that are not what they should be; more are added as they are met."""
        self.packs: dict[bytes, int] = {}
        self.look()

    def look(self) -> None:
        """See what is there now. Index files first, then packs: what an index names and is not there is gone."""
        self.index.recover()
        self.packs = {}
        for entry in self.storage.list("packs/"):
            if pack := pack_id_of(entry.key):
                self.packs[pack] = entry.size_bytes
        self.condemned = set(readable_condemned(self.storage, self.keys))

    def points(self, vm_uuid: str = "") -> list[Point]:
        """Recovery points that can be read, of one VM or of all."""
        found: list[Point] = []
        for entry in list(self.storage.list(f"{POINTS}{vm_uuid}/" if vm_uuid else POINTS)):
            with suppress(Unsound, ObjectMissing, StorageFailed):
                found.append(read_manifest(self.storage, entry.key, "", self.keys))
        return found

    def safe_block(self, name: bytes) -> FoundBlock | None:
        """A block as it is read from a pack that can be leaned on; packs that fail it are noted as damaged."""
        for place in self.index.find(name):
            if place.pack in self.damaged or place.pack in self.condemned or place.pack not in self.packs:
                continue
            found = self._at(place, name)
            if found is not None:
                return found
            self.damaged.add(place.pack)
        return None

    def any_block(self, name: bytes) -> FoundBlock | None:
        """A block from whichever place has it."""
        for place in self.index.find(name):
            if place.pack in self.packs and (found := self._at(place, name)) is not None:
                return found
        return None

    def places(self, name: bytes) -> list[Location]:
        """Where indexes say that a block lies."""
        return self.index.find(name)

    def _at(self, place: Location, name: bytes) -> FoundBlock | None:
        try:
            return self.decoded(self.storage.read(pack_key(place.pack), place.offset, place.length), name)
        except (Unsound, ObjectMissing, StorageFailed):
            return None

    def name_of(self, content: bytes) -> bytes:
        """The name that a block of this content has here."""
        return block_name(content, self.keys)

    def decoded(self, record: bytes, name: bytes) -> FoundBlock:
        """A block out of its record; raises `Unsound`."""
        header = decode_header(record[:HEADER_BYTES])
        return FoundBlock(header.kind, decode_record(record, name, header.raw_length, self.keys))
