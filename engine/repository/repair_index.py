"""An index of what no sound index file tells of, made from the packs themselves.

Packs that a writer is still filling the repository with are left alone: it indexes them itself.
"""

from __future__ import annotations

from engine.errors import NewhopeError
from engine.repository.errors import Unsound
from engine.repository.lease import lease_ids
from engine.repository.pack import PackEntry, SealedPack, pack_key, pack_owner, read_pack_index
from engine.repository.repair_ground import Ground
from engine.repository.repair_packs import survey_pack

BLOCKS_A_FILE = 65536


def packs_without_index(ground: Ground) -> list[bytes]:
    """Packs that no sound index file tells of, less those of writers at work."""
    indexed = {pack for file in ground.index.stored_files() for pack, _ in file.packs()}
    writing = lease_ids(ground.storage)
    return [pack for pack in ground.packs if pack not in indexed and _owner(ground, pack) not in writing]


def index_anew(ground: Ground) -> tuple[int, int]:
    """Write index files over packs that have none; how many packs and blocks they tell of."""
    waiting: list[SealedPack] = []
    packs = blocks = held = 0
    for pack in packs_without_index(ground):
        entries = _entries(ground, pack)
        if not entries:
            continue
        waiting.append(SealedPack(pack, ground.packs[pack], entries))
        packs, blocks, held = packs + 1, blocks + len(entries), held + len(entries)
        if held >= BLOCKS_A_FILE:
            ground.index.add(waiting)
            waiting, held = [], 0
    if waiting:
        ground.index.add(waiting)
    ground.look()
    return packs, blocks


def _entries(ground: Ground, pack: bytes) -> tuple[PackEntry, ...]:
    try:
        return read_pack_index(ground.storage, pack_key(pack))
    except Unsound:
        return survey_pack(ground, pack).records
    except NewhopeError:
        return ()


def _owner(ground: Ground, pack: bytes) -> str:
    try:
        return pack_owner(ground.storage, pack_key(pack)).hex()
    except NewhopeError:
        return ""
