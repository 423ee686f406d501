"""Makes the fixture repository of this format version, once: `python -m tests.repository.make_fixture FOLDER`.

A folder whose name ends with `-encrypted` gets an encrypted one, with two passphrases; tests open it with the second.

The result is committed and never made anew: it is what a released version wrote, and every later one must read it.
Beside it lies `FOLDER.json` with the SHA-256 of each disk and file, and the record's content.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

from engine.repository import Passphrase, Repository, WriterLimits, key_slots
from tests.repository.building import BLOCK, DB, PASSPHRASE, QUICK_COST, commit, facts, later, write_disk

LIMITS = WriterLimits(pack_bytes=5 * BLOCK, index_every_blocks=8)


def disk(seed: int, blocks: int, tail: int) -> bytes:
    """Mostly holes and text, so that it is small; long enough for a map of two levels."""
    chance = random.Random(seed)
    pieces = [bytes(BLOCK)] * blocks
    for block in chance.sample(range(blocks), 12):
        text = f"block {block} of disk {seed}\n".encode() * 300
        pieces[block] = text[:BLOCK] if chance.random() < 0.7 else chance.randbytes(BLOCK)
    return b"".join(pieces) + b"end"[:tail]


def make(folder: Path) -> None:
    if folder.name.endswith("-encrypted"):
        repository = Repository.create(folder, block_bytes=BLOCK, passphrase=Passphrase(b"a word from before"))
        # Two costs, so that every version knows that slots differ in it; the one that tests use is cheap.
        key_slots.USUAL_COST = QUICK_COST
        repository.add_key("tests", PASSPHRASE)
    else:
        repository = Repository.create(folder, block_bytes=BLOCK)
    expected: dict[str, dict[str, str]] = {}
    first = disk(1, 700, 3)
    second = first[: 90 * BLOCK] + b"changed".ljust(BLOCK, b"!") + first[91 * BLOCK :]
    plans = [
        (facts(), later(0), {"vda": first, "vdb": bytes(100_000)}),
        (facts(), later(60), {"vda": second, "vdb": bytes(100_000)}),
        (facts(DB, "db"), later(90), {"vda": disk(3, 40, 1), "vdb": b""}),
    ]
    for vm, moment, disks in plans:
        with repository.writer("the fixture", limits=LIMITS) as writer:
            records = tuple(write_disk(writer, target, content) for target, content in disks.items())
            point = commit(writer, records, moment, vm)
        expected[point.id] = {target: hashlib.sha256(content).hexdigest() for target, content in disks.items()}
        expected[point.id]["definition-inactive"] = hashlib.sha256(b"<domain/>").hexdigest()
    # Nothing but room, and more of it than all the rest.
    shutil.rmtree(folder / "reserve", ignore_errors=True)
    repository.put_record("restores", "report-one", b"# A report\n")
    folder.with_suffix(".json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
