"""newhope's own rows: the same code that backs up and restores VMs, on one disk, without libvirt.

python -m tests.bench.ours backup SOCKET REPOSITORY
python -m tests.bench.ours backup-encrypted SOCKET REPOSITORY
python -m tests.bench.ours changes SOCKET REPOSITORY CHANGES
python -m tests.bench.ours bitmap SOCKET REPOSITORY BITMAP
python -m tests.bench.ours restore REPOSITORY IMAGE
python -m tests.bench.ours backup-both SOCKET SOCKET REPOSITORY
python -m tests.bench.ours restore-both REPOSITORY FOLDER FORMAT

An image whose name ends with .qcow2 is one, every other is raw. Both disks of a point are written at once, as a
restore does. CHANGES is a JSON file of offsets and lengths, which a host's dirty bitmap would tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from engine import nbd
from engine.backup.changed_blocks import copy_changed_blocks
from engine.backup.disk_copy import copy_changes, copy_disk
from engine.hosts.disk_sink import open_sink
from engine.jobs import JobContext, Journal, Knobs
from engine.jobs.pace import Pace
from engine.repository import DiskRecord, Passphrase, Reader, Repository, Writer
from engine.repository.model import Consistency, VmFacts
from engine.restore.run import STREAMS_A_DISK
from engine.restore.step_disks import write_disk

_VM = VmFacts(
    "bench", "00000000-0000-4000-8000-000000000001", "bench", 1, 0, "", "", "", "", None, "", False, False, (), ()
)
_PASSPHRASE = Passphrase(b"bench")
_ROOT = Path(__file__).parents[2]


def command(verb: str, *words: Path | str) -> list[str]:
    """The command line of one of our rows."""
    return [sys.executable, "-m", "tests.bench.ours", verb, *map(str, words)]


def environment(folder: Path) -> Mapping[str, str]:
    """What our rows need to run in any folder."""
    return {"PYTHONPATH": str(_ROOT)}


def _nothing(*_: object) -> None:
    return


def backup(socket: Path, folder: Path, passphrase: Passphrase | None = None) -> None:
    """Make a recovery point of one exported disk, all of it read."""
    if (folder / "newhope-repository").exists():
        repository = _open(folder)
    else:
        repository = Repository.create(folder, passphrase=passphrase)
    with repository, repository.writer("bench") as writer, _connected(socket) as client:
        disk = writer.disk("vda", client.size_bytes, "qcow2")
        copy_disk(client, disk, writer.block_bytes, _nothing, _nothing)
        _commit(writer, disk.finish("full"))


def backup_encrypted(socket: Path, folder: Path) -> None:
    """The same into an encrypted repository."""
    backup(socket, folder, _PASSPHRASE)


def changes(socket: Path, folder: Path, told: Path) -> None:
    """Make a recovery point of one exported disk, of which only what has changed since the newest one is read."""
    with _open(folder) as repository, repository.writer("bench") as writer, _connected(socket) as client:
        parent = repository.points()[0]
        writer.lean_on(parent)
        disk = writer.disk("vda", client.size_bytes, "qcow2", parent=parent.manifest.disks[0])
        copy_changes(client, disk, writer.block_bytes, json.loads(told.read_text()), _nothing, _nothing)
        _commit(writer, disk.finish("what was written since"))


def bitmap(socket: Path, folder: Path, name: Path) -> None:
    """The same, and the server's dirty bitmap of that name tells what has changed; it is sampled as for a VM."""
    context = nbd.dirty_bitmap_context(str(name))
    with (
        _open(folder) as repository,
        repository.writer("bench") as writer,
        repository.reader() as reader,
        nbd.Client.connect(nbd.UnixAddress(str(socket)), contexts=(nbd.BASE_ALLOCATION, context)) as client,
    ):
        parent = repository.points()[0]
        writer.lean_on(parent)
        record = parent.manifest.disks[0]
        disk = writer.disk("vda", client.size_bytes, "qcow2", parent=record)
        copy_changed_blocks(client, context, disk, (reader, record), writer.block_bytes, _nothing, _nothing)
        _commit(writer, disk.finish("what was written since"))


def restore(folder: Path, target: Path) -> None:
    """Write the newest recovery point's disk to a new image."""
    with _open(folder) as repository, repository.reader() as reader, _pace(1) as pace:
        _write(reader, repository.points()[0].manifest.disks[0], target, pace)


def backup_both(first: Path, second: Path, folder: Path) -> None:
    """Make a recovery point of two exported disks."""
    with Repository.create(folder) as repository, repository.writer("bench") as writer:
        records: list[DiskRecord] = []
        for target, socket in (("vda", first), ("vdb", second)):
            with _connected(socket) as client:
                disk = writer.disk(target, client.size_bytes, "raw")
                copy_disk(client, disk, writer.block_bytes, _nothing, _nothing)
                records.append(disk.finish("full"))
        _commit(writer, *records)


def restore_both(folder: Path, into: Path, image_format: Path) -> None:
    """Write all disks of the newest recovery point to new images side by side."""
    with _open(folder) as repository, repository.reader() as reader, ThreadPoolExecutor() as disks:
        records = repository.points()[0].manifest.disks
        with _pace(len(records)) as pace:
            for written in [
                disks.submit(_write, reader, each, into / f"{each.target}.{image_format}", pace) for each in records
            ]:
                written.result()


@contextmanager
def _pace(disks: int) -> Generator[Pace]:
    """How fast a restore's job goes, unless somebody turns its knobs."""
    with TemporaryDirectory() as state, Journal(Path(state)) as journal:
        job = journal.insert(
            kind="restore",
            subject="bench",
            host="bench",
            spec=b"",
            lock=None,
            again="",
            untouched="",
            knobs=Knobs(streams=STREAMS_A_DISK * disks),
        )
        yield Pace(JobContext(journal, journal.job(job)))


def _write(reader: Reader, record: DiskRecord, target: Path, pace: Pace) -> None:
    image_format = "qcow2" if target.suffix == ".qcow2" else "raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, target, str(record.size_bytes)], check=True)
    with open_sink(target, image_format, target.with_suffix(".sock")) as sink:
        write_disk(reader, record, sink, _nothing, _nothing, turn=partial(pace.stream, record.target))


def _open(folder: Path) -> Repository:
    return Repository.open(folder, unlock=lambda *_: _PASSPHRASE)


def _connected(socket: Path) -> nbd.Client:
    return nbd.Client.connect(nbd.UnixAddress(str(socket)), contexts=(nbd.BASE_ALLOCATION,))


def _commit(writer: Writer, *disks: DiskRecord) -> None:
    writer.commit(
        vm=_VM,
        moment=datetime.now(UTC),
        method="hot",
        consistency=Consistency.CRASH,
        consistency_note="a benchmark",
        disks=disks,
        files=(),
        downtime_s=0.0,
        writer="bench",
    )


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    verbs = {
        "backup": backup,
        "backup-encrypted": backup_encrypted,
        "changes": changes,
        "bitmap": bitmap,
        "restore": restore,
        "backup-both": backup_both,
        "restore-both": restore_both,
    }
    verbs[verb](*map(Path, paths))
