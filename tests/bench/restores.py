"""Restoring whole disks: one to a raw file, one to a qcow2 file, and two at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers, virtnbd
from tests.bench.full import base_repositories
from tests.bench.image import Images
from tests.bench.measure import Row
from tests.bench.ours import command, environment
from tests.bench.promises import Promise, at_most


@dataclass(frozen=True)
class Backups:
    """Two disks as each program keeps them; a program that could not make its backup is not there."""

    ours: Path
    virtnbd: Path | None
    bases: Mapping[str, Path]


def to_raw(
    images: Images, repository: Path, encrypted: Path, rivals: Sequence[peers.Peer], bases: Mapping[str, Path]
) -> list[Row]:
    """Ours first, then a plain copy, then the others."""
    qemu_img = peers.version_of("qemu-img")
    return [
        Row("newhope", lambda folder: command("restore", repository, folder / "disk.raw"), environment),
        Row("newhope, encrypted", lambda folder: command("restore", encrypted, folder / "disk.raw"), environment),
        Row(f"qemu-img {qemu_img} convert, raw to raw (a plain copy)", lambda folder: _copy(images.raw, folder, "raw")),
        *(_of_rival(peer, bases, lambda peer, base: peers.archive_of(peer, base)) for peer in rivals),
    ]


def to_qcow2(images: Images, repository: Path, encrypted: Path, both: Backups) -> list[Row]:
    """Those that write qcow2 by themselves."""
    qemu_img = peers.version_of("qemu-img")
    return [
        Row("newhope", lambda folder: command("restore", repository, folder / "disk.qcow2"), environment),
        Row("newhope, encrypted", lambda folder: command("restore", encrypted, folder / "disk.qcow2"), environment),
        Row(
            f"qemu-img {qemu_img} convert, raw to qcow2 (a plain copy)",
            lambda folder: _copy(images.raw, folder, "qcow2"),
        ),
        _of_virtnbd(both, "vda"),
    ]


def two_at_once(images: Images, rivals: Sequence[peers.Peer], both: Backups) -> list[Row]:
    """Ours writes all disks of a VM in one process; the others are run as two processes at the same time."""
    qemu_img = peers.version_of("qemu-img")
    disks = (images.raw, images.changed)

    def files_of(peer: peers.Peer, base: Path) -> list[str]:
        return peers.side_by_side(*(peers.file_of(peer, base, disk) for disk in disks))

    return [
        Row("newhope, to raw", lambda folder: command("restore-both", both.ours, folder, "raw"), environment),
        Row("newhope, to qcow2", lambda folder: command("restore-both", both.ours, folder, "qcow2"), environment),
        Row(
            f"qemu-img {qemu_img} convert, raw to raw (a plain copy)",
            lambda folder: peers.side_by_side(*(_copy(disk, folder, "raw") for disk in disks)),
        ),
        *(_of_rival(peer, both.bases, files_of) for peer in rivals),
        _of_virtnbd(both, "vda", "vdb"),
    ]


def promises(measured: Sequence[Row]) -> list[Promise]:
    """What was promised of restores to a raw file."""
    ours, _, plain, restic, best = measured
    return [
        at_most("restore: 3 times restic's speed", ours, restic, "wall_s", 1 / 3),
        at_most("restore: 3 times borg's speed", ours, best, "wall_s", 1 / 3),
        at_most("restore: 0.8 of the speed of a plain copy (at most 1.25 times its time)", ours, plain, "wall_s", 1.25),
    ]


def no_promises(_: Sequence[Row]) -> list[Promise]:
    """Nothing was promised of the other tables."""
    return []


def fill_both(folder: Path, images: Images, sockets: tuple[str, str], rivals: Sequence[peers.Peer]) -> Backups:
    """Back the disk and the changed one up as two disks of one VM with every program, not measured."""
    kept = folder / "newhope"
    kept.mkdir(parents=True)
    subprocess.run(command("backup-both", *sockets, kept), check=True, env={**os.environ, **environment(kept)})
    bases = base_repositories(folder, rivals, images.raw, images.changed)
    try:
        changed = folder / "changed.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", images.changed, changed], check=True)
        return Backups(kept, virtnbd.fill(folder, {"vda": images.qcow2, "vdb": changed}), bases)
    except (OSError, subprocess.SubprocessError) as failure:
        print(f"virtnbdbackup made no backup: {failure}", file=sys.stderr, flush=True)
        return Backups(kept, None, bases)


def _copy(disk: Path, folder: Path, image_format: str) -> list[str]:
    target = folder / f"{disk.stem}.{image_format}"
    return ["qemu-img", "convert", "-f", "raw", "-O", image_format, str(disk), str(target)]


def _of_rival(
    peer: peers.Peer, bases: Mapping[str, Path], restored: Callable[[peers.Peer, Path], Sequence[str]]
) -> Row:
    return Row(
        peer.name,
        lambda _: restored(peer, bases[peer.name]),
        lambda _: peer.environment(bases[peer.name]),
        failure="" if peer.name in bases else "it made no repository",
    )


def _of_virtnbd(both: Backups, *disks: str) -> Row:
    kept = both.virtnbd or Path()
    return Row(
        f"virtnbdbackup {virtnbd.version() if both.virtnbd else ''}, to qcow2",
        lambda folder: peers.side_by_side(*(virtnbd.restore(kept, folder, disk) for disk in disks)),
        failure="" if both.virtnbd else "it made no backup",
    )
