"""Lend a recovery point to any program that speaks NBD: its disks as read-only exports, for as long as a block runs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from engine.errors import NotFound
from engine.nbd import Server, TcpAddress
from engine.repository import DiskRecord, Point, Reader
from engine.restore.served_disk import Damaged, ServedDisk

AHEAD_THREADS = 2


def disks_to_serve(point: Point, targets: Sequence[str]) -> tuple[DiskRecord, ...]:
    """The disks of these targets, or all; raises `NotFound` if it has no such disk, or none at all."""
    named = f"{point.manifest.vm.name}@{point.id[:8]}"
    there = [disk.target for disk in point.manifest.disks]
    missing = [target for target in targets if target not in there]
    if missing or not there:
        raise NotFound(
            f"{named} has no disk {', '.join(missing)}." if missing else f"{named} has no disk to serve.",
            next_step=f"its disks are: {', '.join(there)}."
            if there
            else f"see what it has: newhope points show {named}.",
        )
    return tuple(disk for disk in point.manifest.disks if not targets or disk.target in targets)


@contextmanager
def served(
    reader: Reader, disks: Sequence[DiskRecord], where: Path | TcpAddress, damaged: Damaged
) -> Generator[Server]:
    """Serve these disks, each by its target's name. Raises `NotServable`; leaves nothing behind when it ends."""
    ahead = ThreadPoolExecutor(AHEAD_THREADS, thread_name_prefix="read ahead")
    try:
        with reader, Server(where, {disk.target: ServedDisk(reader, disk, ahead, damaged) for disk in disks}) as server:
            yield server
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)
