"""What ties a definition to its host, and whether something is there at a path of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.hosts.answers import is_there, left_behind
from engine.hosts.files_of_host import LocalFiles, NoFiles
from engine.hosts.xml_tree import parse


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("", ()),
        ("<memoryBacking><locked/></memoryBacking>", ()),
        ("<memoryBacking><hugepages/></memoryBacking>", ("huge pages",)),
        ("<memoryBacking><hugepages><page size='2048'/></hugepages></memoryBacking>", ("huge pages of 2 MiB",)),
        (
            "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>",
            ("huge pages of 1024 MiB",),
        ),
        ("<cputune><vcpupin vcpu='0' cpuset='3'/></cputune>", ("its place on the host's processors and memory nodes",)),
        ("<numatune/>", ("its place on the host's processors and memory nodes",)),
        (
            "<devices><filesystem><source dir='/srv/share'/><target dir='tag'/></filesystem></devices>",
            ("the shared folder /srv/share",),
        ),
        ("<devices><shmem name='ring'/></devices>", ("the shared memory ring",)),
    ],
)
def test_what_is_never_restored_is_named(inside: str, found: tuple[str, ...]):
    assert left_behind(parse(f"<domain>{inside}</domain>")) == found


def test_a_file_is_there_or_not_or_nobody_can_tell(tmp_path: Path):
    (tmp_path / "here").touch()

    assert is_there(LocalFiles(), tmp_path / "here") is True
    assert is_there(LocalFiles(), tmp_path / "gone") is False
    assert is_there(LocalFiles(), tmp_path / "no-folder" / "gone") is False
    assert is_there(NoFiles("coruscant", "it is reached over TLS"), tmp_path / "here") is None
