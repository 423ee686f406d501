"""Small repositories for tests: tiny blocks and packs, so that a few kilobytes already have maps, packs and indexes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.repository import (
    Consistency,
    DiskRecord,
    Passphrase,
    Point,
    Repository,
    Secret,
    VmFacts,
    Writer,
    WriterLimits,
)
from engine.repository.key_slots import Cost

BLOCK = 4096
SMALL = WriterLimits(pack_bytes=16 * BLOCK, index_every_blocks=40)
WEB = "11111111-1111-4111-8111-111111111111"
DB = "22222222-2222-4222-8222-222222222222"
PASSPHRASE = Passphrase(b"correct horse battery staple")
QUICK_COST = Cost(memory_kib=64, passes=1, lanes=1)
FIRST_MOMENT = datetime(2026, 11, 22, 8, 13, 55, tzinfo=UTC)


def unlock(repository_id: str, name: str) -> Secret:
    """As somebody who knows the passphrase."""
    return PASSPHRASE


def facts(uuid: str = WEB, name: str = "web") -> VmFacts:
    return VmFacts(
        name=name,
        uuid=uuid,
        host="alderaan",
        vcpus=1,
        memory_bytes=256 << 20,
        arch="x86_64",
        machine="pc-q35-7.2",
        virt_type="qemu",
        cpu_mode="",
        cpu_model=None,
        firmware="bios",
        tpm=False,
        agent=True,
        nics=("user:",),
        macs=("52:54:00:00:00:01",),
    )


def mixed_disk(blocks: int = 700, seed: int = 1, tail: int = 1000) -> bytes:
    """Random, compressible, repeated and zero blocks, and a short last one."""
    chance = random.Random(seed)
    repeated = chance.randbytes(BLOCK)
    pieces: list[bytes] = []
    for _ in range(blocks):
        match chance.randrange(5):
            case 0:
                pieces.append(bytes(BLOCK))
            case 1:
                pieces.append(repeated)
            case 2:
                pieces.append(chance.randbytes(64) * (BLOCK // 64))
            case _:
                pieces.append(chance.randbytes(BLOCK))
    return b"".join(pieces) + chance.randbytes(tail)


def write_disk(writer: Writer, target: str, content: bytes, order: Iterable[int] | None = None) -> DiskRecord:
    """Feed a disk block by block, in any order."""
    size = writer.block_bytes
    disk = writer.disk(target, len(content), "raw")
    for number in range(-(-len(content) // size)) if order is None else order:
        piece = content[number * size : (number + 1) * size]
        buffer = disk.buffer()
        buffer[: len(piece)] = piece
        disk.submit(number, buffer, len(piece))
    return disk.finish("full: first recovery point")


def commit(
    writer: Writer,
    disks: tuple[DiskRecord, ...],
    moment: datetime = FIRST_MOMENT,
    vm: VmFacts | None = None,
    **more: object,
) -> Point:
    files = (writer.file("definition-inactive", "web", b"<domain/>"),)
    return writer.commit(
        vm=vm or facts(),
        moment=moment,
        method="hot",
        consistency=Consistency.CRASH,
        consistency_note="the guest has no agent",
        disks=disks,
        files=files,
        writer="newhope 0.1.0",
        **more,  # type: ignore[arg-type]
    )


def back_up(
    repository: Repository,
    *contents: bytes,
    moment: datetime = FIRST_MOMENT,
    vm: VmFacts | None = None,
    limits: WriterLimits = SMALL,
) -> Point:
    """Make a recovery point of disks vda, vdb, ..."""
    with repository.writer("a test", limits=limits) as writer:
        disks = tuple(write_disk(writer, f"vd{'abcdefgh'[i]}", content) for i, content in enumerate(contents))
        return commit(writer, disks, moment, vm)


def restored(repository: Repository, record: DiskRecord) -> bytes:
    """A disk, as a restore would write it."""
    content = bytearray(record.size_bytes)
    with repository.reader() as reader:
        for offset, data in reader.read_disk(record):
            assert len(data) <= record.size_bytes - offset
            content[offset : offset + len(data)] = data
    return bytes(content)


def later(minutes: int) -> datetime:
    return FIRST_MOMENT + timedelta(minutes=minutes)


def packs_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("packs/*/*") if path.is_file())
