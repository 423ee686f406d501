"""Packs that a writer made durable and did not live to index.

Each is indexed anew from its own table, so that whoever writes next leans on its blocks instead of storing them again.
That is safe beside everything: a new writer leans on any pack that is there and not condemned, whoever indexed it
(`collection`), and a pack of a writer that is still at work is merely found sooner.
"""

from __future__ import annotations

from engine.errors import NewhopeError
from engine.repository.errors import Unsound
from engine.repository.index import Index
from engine.repository.pack import SealedPack, pack_id_of, read_pack_index
from engine.repository.storage import Storage

PACKS_A_FILE = 256


def adopt_orphans(storage: Storage, index: Index) -> int:
    """Index the packs that no index file tells of; how many. A pack whose table is damaged is left to `recover`."""
    index.refresh()
    covered = {pack for file in index.stored_files() for pack, _ in file.packs()}
    adopted: list[SealedPack] = []
    number = 0
    for entry in list(storage.list("packs/")):
        pack_id = pack_id_of(entry.key)
        if pack_id is None or pack_id in covered:
            continue
        try:
            adopted.append(SealedPack(pack_id, entry.size_bytes, read_pack_index(storage, entry.key)))
        except (Unsound, NewhopeError):
            continue
        if len(adopted) == PACKS_A_FILE:
            number += _add(index, adopted)
            adopted = []
    return number + _add(index, adopted)


def _add(index: Index, packs: list[SealedPack]) -> int:
    if packs:
        index.add(packs)
    return len(packs)
