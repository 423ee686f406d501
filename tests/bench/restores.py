"""Restoring a whole disk to a raw file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import peers
from tests.bench.image import Images
from tests.bench.measure import Row
from tests.bench.ours import command, environment
from tests.bench.promises import Promise, at_most


def rows(
    images: Images, repository: Path, encrypted: Path, rivals: Sequence[peers.Peer], bases: Mapping[str, Path]
) -> list[Row]:
    """Ours first, then a plain copy, then the others."""
    qemu_img = peers.version_of("qemu-img")
    return [
        Row("newhope", lambda folder: command("restore", repository, folder / "disk.raw"), environment),
        Row("newhope, encrypted", lambda folder: command("restore", encrypted, folder / "disk.raw"), environment),
        Row(
            f"qemu-img {qemu_img} convert, raw to raw (a plain copy)",
            lambda folder: ["qemu-img", "convert", "-f", "raw", "-O", "raw", str(images.raw), str(folder / "disk.raw")],
        ),
        *(
            Row(
                peer.name,
                lambda _, peer=peer: peers.archive_of(peer, bases[peer.name]),
                lambda _, peer=peer: peer.environment(bases[peer.name]),
                failure="" if peer.name in bases else "it made no repository",
            )
            for peer in rivals
        ),
    ]


def promises(measured: Sequence[Row]) -> list[Promise]:
    """What was promised of these rows."""
    ours, _, plain, restic, best = measured
    return [
        at_most("restore: 3 times restic's speed", ours, restic, "wall_s", 1 / 3),
        at_most("restore: 3 times borg's speed", ours, best, "wall_s", 1 / 3),
        at_most("restore: 0.8 of the speed of a plain copy (at most 1.25 times its time)", ours, plain, "wall_s", 1.25),
    ]
