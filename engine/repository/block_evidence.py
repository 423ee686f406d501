"""What is known of where blocks lie, and whether they can be read back from there.

1. A place that an index names counts as good when its pack is there with the size it should have.
2. A pack that was found to be unsound, or has another size, is a *suspect*: of a place in it, the record itself is read
   and decides. So a pack with one flipped bit costs the blocks that the bit hit, and no others.
3. Where the index knows no good place, the packs that no sound index file names are asked for their own tables. A
   block that is found only there is whole, and shows that an index file is lost.
4. A block without any good place is lost. The packs of its bad places are the culprits.

Whoever looks must have listed recovery points before index files, and these before packs: a writer works in the other
direction, so whatever those points need is seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import NewhopeError
from engine.repository.block_record import HEADER_BYTES, decode_header, decode_record
from engine.repository.errors import Unsound
from engine.repository.index import Index
from engine.repository.index_file import Location
from engine.repository.keys import Keys
from engine.repository.pack import pack_key
from engine.repository.storage import Storage

NO_PACK = ("packs/",)


class BlockEvidence:
    """Judges blocks. For one thread at a time."""

    def __init__(
        self,
        storage: Storage,
        index: Index,
        packs: Mapping[bytes, int],
        indexed: frozenset[bytes],
        suspects: Mapping[bytes, str],
        keys: Keys | None = None,
    ) -> None:
        self._storage = storage
        self._index = index
        self._packs = packs
        self._indexed = indexed
        self._suspects = suspects
        self._keys = keys
        self._recovered = False
        self._records: dict[tuple[bytes, int, int], bool] = {}
        self._lost_nodes: dict[bytes, tuple[str, ...]] = {}
        self.wrong: dict[bytes, str] = {}
        """Packs that are not what an index says they are, with what is wrong, as far as they were met."""
        self.unindexed: set[bytes] = set()
        """Packs that hold blocks which were looked for, and that no sound index file names."""

    def culprits(self, name: bytes) -> tuple[str, ...]:
        """Keys of the objects because of which a block is lost; empty for one that can be read."""
        if name in self._lost_nodes:
            return self._lost_nodes[name]
        places = self._index.find(name)
        for place in places:
            if self._good(place, name):
                return ()
        if not self._recovered:
            self.recover()
            return self.culprits(name)
        return tuple(dict.fromkeys(pack_key(place.pack) for place in places)) or NO_PACK

    def node(self, name: bytes, length: int) -> bytes | None:
        """Content of a node of a map, checked against its name; None if no place has it."""
        for recover_first in (False, True):
            if recover_first:
                self.recover()
            for place in self._index.find(name):
                content = self._read_node(place, name, length)
                if content is not None:
                    return content
        places = dict.fromkeys(pack_key(place.pack) for place in self._index.find(name))
        self._lost_nodes[name] = tuple(places) or NO_PACK
        return None

    def recover(self) -> None:
        """Ask the packs that no sound index file names, too. Does its work once."""
        if not self._recovered:
            self._recovered = True
            self._index.recover()

    def _good(self, place: Location, name: bytes) -> bool:
        size = self._packs.get(place.pack)
        if size is None:
            self.wrong.setdefault(place.pack, "it is missing")
            return False
        if place.pack not in self._indexed:
            self.unindexed.add(place.pack)
        if size != place.pack_size:
            self.wrong.setdefault(place.pack, f"it has {size} bytes where an index names {place.pack_size}")
        elif place.offset + place.length <= size and place.pack not in self._suspects:
            return True
        return self._readable(place, name)

    def _readable(self, place: Location, name: bytes) -> bool:
        key = (place.pack, place.offset, place.length)
        known = self._records.get(key)
        if known is None:
            known = self._records[key] = self._read(place, name, None) is not None
        return known

    def _read_node(self, place: Location, name: bytes, length: int) -> bytes | None:
        if place.pack not in self._packs:
            self.wrong.setdefault(place.pack, "it is missing")
            return None
        content = self._read(place, name, length)
        if content is not None and place.pack not in self._indexed:
            self.unindexed.add(place.pack)
        return content

    def _read(self, place: Location, name: bytes, length: int | None) -> bytes | None:
        """The block at a place; None, and a word in `wrong`, if it is not there."""
        try:
            record = self._storage.read(pack_key(place.pack), place.offset, place.length)
            raw_length = decode_header(record[:HEADER_BYTES]).raw_length if length is None else length
            return decode_record(record, name, raw_length, self._keys)
        except Unsound as reason:
            self.wrong.setdefault(place.pack, f"in its block at {place.offset}, {reason}")
        except NewhopeError as error:
            self.wrong.setdefault(place.pack, f"it cannot be read: {error.what}")
        return None
