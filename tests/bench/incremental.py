"""Backing up a disk again after 5 % of its data has changed, in pieces of 64 KiB all over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import nbd
from tests.bench import peers
from tests.bench.image import Images
from tests.bench.measure import Row
from tests.bench.ours import command, environment
from tests.bench.promises import Promise


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
            "newhope, no bitmap: all is read",
            lambda folder: command("backup", changed.path, folder),
            environment,
            repository,
        ),
        Row(
            "newhope, no bitmap, nothing has changed",
            lambda folder: command("backup", unchanged.path, folder),
            environment,
            repository,
        ),
        Row("nbdcopy to nothing (only reads)", lambda _: ["nbdcopy", changed.uri(), "null:"]),
        *(
            Row(
                peer.name,
                lambda _, peer=peer: [*peer.backup, str(images.changed)],
                peer.environment,
                bases[peer.name],
            )
            for peer in rivals
        ),
    ]


def promises(measured: Sequence[Row]) -> list[Promise]:
    """What was promised of these rows."""
    return []
