"""Whose a backup job is, by the names of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.hosts import scratch
from engine.hosts.backup_owner import owner_in_words
from engine.hosts.backup_xml import RunningBackup


@pytest.mark.parametrize(
    ("socket", "others", "targets", "words"),
    [
        ("/var/tmp/virtnbdbackup.77", (), (), "by virtnbdbackup, process 77 of the machine it runs on"),
        ("/tmp/chosen.sock", ("/var/tmp/backup.AB3DE.vda",), (), "by virtnbdbackup"),
        ("/run/vdsm/backup/11c6", ("/rhev/scratch",), (), "by oVirt (VDSM)"),
        ("/tmp/x.sock", ("/tmp/x",), (), "by another program, which reads it at /tmp/x.sock"),
        (None, (), ("/backup/web.qcow2",), "by another program, into /backup/web.qcow2"),
        (None, (), (), "by another program"),
    ],
)
def test_programs_are_known_by_the_files_they_use(
    socket: str | None, others: tuple[str, ...], targets: tuple[str, ...], words: str
) -> None:
    job = RunningBackup(
        Path(socket) if socket else None, tuple(Path(each) for each in others), tuple(Path(each) for each in targets)
    )

    assert owner_in_words(job) == words


def test_ones_own_names_its_process() -> None:
    files = scratch.new_files(Path("/s"), "be1c206f-e8b5-4f55-98cc-16aadc925c76")

    assert owner_in_words(RunningBackup(files.socket, ())) == f"by newhope, process {os.getpid()} of this machine"
