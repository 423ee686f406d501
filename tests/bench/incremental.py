"""Backing up a disk again after 5 % of its data has changed, in pieces of 64 KiB all over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import nbd
from tests.bench import peers
from tests.bench.image import Images
from tests.bench.measure import Row
from tests.bench.ours import command, environment
from tests.bench.promises import Promise, at_most


def rows(
    images: Images,
    changed: nbd.UnixAddress,
    unchanged: nbd.UnixAddress,
    repository: Path,
    rivals: Sequence[peers.Peer],
    bases: Mapping[str, Path],
) -> list[Row]:
    """Ours first, each on a copy of its repository with the disk as it was before."""
    return [
        Row(
            "newhope, changes known from a bitmap",
            lambda folder: command("changes", changed.path, folder, images.changes),
            environment,
            repository,
        ),
        Row(
            "newhope, without a bitmap",
            lambda folder: command("backup", changed.path, folder),
            environment,
            repository,
        ),
        Row(
            "newhope, without a bitmap, of a disk without changes",
            lambda folder: command("backup", unchanged.path, folder),
            environment,
            repository,
        ),
        Row("nbdcopy to nothing: only reading", lambda _: ["nbdcopy", changed.uri(), "null:"]),
        *(
            Row(
                peer.name,
                lambda _, peer=peer: [*peer.backup, str(images.changed)],
                peer.environment,
                bases.get(peer.name),
                failure="" if peer.name in bases else "it made no repository",
            )
            for peer in rivals
        ),
    ]


def promises(measured: Sequence[Row]) -> list[Promise]:
    """What was promised of these rows."""
    ours, _, _, _, restic, best = measured
    return [
        at_most("incremental: 25 times restic's speed", ours, restic, "wall_s", 1 / 25),
        at_most("incremental: a third of the space that borg needs", ours, best, "stored_mib", 1 / 3),
    ]
