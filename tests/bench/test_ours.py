"""What the bench measures is right: our rows make recovery points that give the disk back byte for byte."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from engine.hosts import image
from tests.bench import ours

PIECE = 64 << 10
PIECES = 160


def test_backups_and_changes_are_restored_byte_for_byte(tmp_path: Path) -> None:
    chance = random.Random(7)
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(PIECES * PIECE + 512)
        for number in chance.sample(range(PIECES), 60):
            os.pwrite(file.fileno(), chance.randbytes(PIECE), number * PIECE)
    repository = tmp_path / "repository"
    with image.serve(disk, "raw", tmp_path / "s") as address:
        ours.backup(Path(address.path), repository)

    changed = sorted(chance.sample(range(PIECES), 12))
    with disk.open("r+b") as file:
        for number in changed:
            # Some become zero: their old content must not come back.
            os.pwrite(file.fileno(), bytes(PIECE) if number % 3 else chance.randbytes(PIECE), number * PIECE)
    told = tmp_path / "changes.json"
    told.write_text(json.dumps([(number * PIECE, PIECE) for number in changed]))
    with image.serve(disk, "raw", tmp_path / "s") as address:
        ours.changes(Path(address.path), repository, told)
    ours.restore(repository, tmp_path / "restored.raw")

    assert (tmp_path / "restored.raw").read_bytes() == disk.read_bytes()
