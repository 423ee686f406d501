"""newhope's own rows: the same code that backs up and restores VMs, on one disk, without libvirt.

python -m tests.bench.ours backup SOCKET REPOSITORY
python -m tests.bench.ours restore REPOSITORY IMAGE
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from engine import nbd
from engine.backup.disk_copy import copy_disk
from engine.hosts.disk_sink import open_sink
from engine.repository import Repository
from engine.repository.model import Consistency, VmFacts
from engine.restore.run import write_disk

_VM = VmFacts(
    "bench", "00000000-0000-4000-8000-000000000001", "bench", 1, 0, "", "", "", "", None, "", False, False, (), ()
)


_ROOT = Path(__file__).parents[2]


def command(verb: str, first: Path | str, second: Path) -> list[str]:
    """The command line of one of our rows."""
    return [sys.executable, "-m", "tests.bench.ours", verb, str(first), str(second)]


def environment(folder: Path) -> Mapping[str, str]:
    """What our rows need to run in any folder."""
    return {"PYTHONPATH": str(_ROOT)}


def _nothing(*_: object) -> None:
    return


def backup(socket: Path, folder: Path) -> None:
    """Make a recovery point of one exported disk."""
    repository = Repository.open(folder) if (folder / "newhope-repository").exists() else Repository.create(folder)
    with (
        repository,
        repository.writer("bench") as writer,
        nbd.Client.connect(nbd.UnixAddress(str(socket)), contexts=(nbd.BASE_ALLOCATION,)) as client,
    ):
        disk = writer.disk("vda", client.size_bytes, "qcow2")
        copy_disk(client, disk, writer.block_bytes, _nothing, _nothing)
        now = datetime.now(UTC)
        writer.commit(
            vm=_VM,
            moment=now,
            method="hot",
            consistency=Consistency.CRASH,
            consistency_note="a benchmark",
            disks=(disk.finish("full"),),
            files=(),
            downtime_s=0.0,
            writer="bench",
        )


def restore(folder: Path, target: Path) -> None:
    """Write the newest recovery point's disk to a new image."""
    with Repository.open(folder) as repository, repository.reader() as reader:
        record = repository.points()[0].manifest.disks[0]
        subprocess.run(["qemu-img", "create", "-q", "-f", "raw", target, str(record.size_bytes)], check=True)
        with open_sink(target, "raw", target.with_suffix(".sock")) as sink:
            write_disk(reader, record, sink, _nothing, _nothing)


if __name__ == "__main__":
    verb, first, second = sys.argv[1:]
    {"backup": backup, "restore": restore}[verb](Path(first), Path(second))
