"""Reads many packs, a few at the same time, and gives their verdicts in the order that was asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from engine.errors import NewhopeError
from engine.repository.errors import ObjectMissing
from engine.repository.identity import IDENTITY_KEY
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.storage import Storage
from engine.repository.verify_model import VerifyLimits
from engine.repository.verify_pack import check_pack


class PackVerdict(NamedTuple):
    """What reading a pack to its end showed."""

    pack: bytes
    size_bytes: int
    what: str | None
    """What is wrong with it; None for a sound one."""
    gone: bool = False
    """It was listed and could not be opened any more: collected meanwhile, or lost."""


def read_packs(
    storage: Storage,
    index: Index,
    packs: Iterable[tuple[bytes, int]],
    limits: VerifyLimits,
    keys: Keys | None = None,
) -> Iterator[PackVerdict]:
    """Verdicts of packs given by name and size. Raises `NewhopeError` if the storage as a whole does not answer.

    When the caller stops early, packs that are being read are read to their end and forgotten.
    """
    workers = limits.workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="verify packs") as pool:
        waiting: deque[Future[PackVerdict]] = deque()
        try:
            for pack, size_bytes in packs:
                waiting.append(pool.submit(_verdict, storage, index, pack, size_bytes, limits.window_bytes, keys))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _verdict(
    storage: Storage, index: Index, pack: bytes, size_bytes: int, window_bytes: int, keys: Keys | None
) -> PackVerdict:
    try:
        return PackVerdict(pack, size_bytes, check_pack(storage, index, pack, size_bytes, window_bytes, keys))
    except NewhopeError as error:
        # Of a storage that went away as a whole, no pack may be called damaged.
        storage.read(IDENTITY_KEY)
        if isinstance(error, ObjectMissing):
            return PackVerdict(pack, size_bytes, None, gone=True)
        return PackVerdict(pack, size_bytes, f"it cannot be read: {error.what}")
