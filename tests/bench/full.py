"""Backing up a whole disk for the first time, from an NBD export as newhope gets it, or from the image as peers do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import nbd
from tests.bench import peers
from tests.bench.image import Images
from tests.bench.measure import Row
from tests.bench.ours import command, environment
from tests.bench.promises import Promise, at_most

COMPRESS = ("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd")


def rows(images: Images, address: nbd.UnixAddress, rivals: Sequence[peers.Peer]) -> list[Row]:
    """Ours first, then what bounds it, then the others."""
    qemu_img, nbdcopy = peers.version_of("qemu-img"), peers.version_of("nbdcopy")
    return [
        Row("newhope", lambda folder: command("backup", address.path, folder), environment),
        Row(
            "newhope, encrypted",
            lambda folder: command("backup-encrypted", address.path, folder),
            environment,
        ),
        Row(f"nbdcopy {nbdcopy} to nothing", lambda _: ["nbdcopy", address.uri(), "null:"]),
        Row(f"nbdcopy {nbdcopy} to a raw file", lambda folder: ["nbdcopy", address.uri(), str(folder / "disk.raw")]),
        Row(
            f"qemu-img {qemu_img} convert -c -W -m16, zstd",
            lambda folder: [*COMPRESS, "-W", "-m", "16", str(images.qcow2), str(folder / "disk.qcow2")],
        ),
        Row(
            f"qemu-img {qemu_img} convert -c, zstd",
            lambda folder: [*COMPRESS, str(images.qcow2), str(folder / "disk.qcow2")],
        ),
        *(
            Row(
                peer.name,
                lambda _, peer=peer: [*peer.backup, str(images.raw)],
                peer.environment,
                prepare=peer.create,
            )
            for peer in rivals
        ),
    ]


def promises(measured: Sequence[Row]) -> list[Promise]:
    """What was promised of these rows."""
    ours, encrypted, _, raw, compressed, _, *rivals = measured
    restic, best = rivals[0], rivals[1]
    return [
        at_most("full backup: 4.5 times restic's speed", ours, restic, "wall_s", 1 / 4.5),
        at_most("full backup: 1.7 times the best borg's speed", ours, best, "wall_s", 1 / 1.7),
        at_most("full backup: 1.7 times the speed of qemu-img convert -c -W -m16", ours, compressed, "wall_s", 1 / 1.7),
        at_most("full backup: at most 1.5 times the time of nbdcopy to a raw file", ours, raw, "wall_s", 1.5),
        at_most("full backup, encrypted: at most 1.15 times the time without", encrypted, ours, "wall_s", 1.15),
        at_most("full backup: at most 1.05 times the space of borg with fixed blocks", ours, best, "stored_mib", 1.05),
    ]


def base_repositories(folder: Path, rivals: Sequence[peers.Peer], *disks: Path) -> dict[str, Path]:
    """One repository a peer with the disks in it, for incremental backups and restores; by the peer's name.

    A peer that cannot make one is left out, and its rows say so.
    """
    made: dict[str, Path] = {}
    for number, peer in enumerate(rivals):
        home = folder / f"base-{number}"
        home.mkdir(parents=True)
        try:
            peer.create(home)
            peer.fill(home, *disks)
        except subprocess.SubprocessError as failure:
            print(f"{peer.name} made no repository: {failure}", file=sys.stderr, flush=True)
            continue
        made[peer.name] = home
    return made
