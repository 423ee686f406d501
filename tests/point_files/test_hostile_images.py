"""Whole volumes of file systems that were made to hurt whoever gets their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.disk_files import FileSystemUnreadable, open_disks
from engine.point_files import write
from engine.point_files.disk_volume import VolumeFiles
from tests.disk_files import images
from tests.faults.figures import Fault, count


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Folders that lead into themselves and to each other, a file of 2 EiB, names that lead out or move a cursor."""
    tree = images.make_tree(tmp_path / "tree", many=3)
    for level in range(40):
        (tree / f"laughs/{level}").mkdir(parents=True)
    image = images.ext(tmp_path / "disk", tree)
    commands = ["link /etc /etc/deep/again", "link / /usr/top", "set_inode_field /holes size 0x2000000000000000"]
    for level in range(39):
        commands += [f"link /laughs/{level + 1} /laughs/{level}/{name}" for name in ("a", "b")]
    images.run("debugfs", "-w", "-f", "-", image, stdin="\n".join(commands))
    content = image.read_bytes()
    for name, hostile in ((b"empty-file", b"../../evil"), (b"absolute", b"\x1b[2Jnewl"), (b"circle", b"/evil\0")):
        assert name in content
        content = content.replace(name, hostile)
    image.write_bytes(content)
    return image


def test_a_volume_made_to_hurt_is_written_without_what_hurts(hostile: Path, tmp_path: Path) -> None:
    place = tmp_path / "place" / "out"
    place.parent.mkdir()

    with open_disks([images.disk("vda", hostile)]) as disks:
        disks.volumes()
        with pytest.raises(FileSystemUnreadable):
            write(VolumeFiles(disks, "vda"), b"", tmp_path / "stopped")
        done = write(VolumeFiles(disks, "vda"), b"", place, salvage=True)

    told = {each.path: each.reason for each in done.left_out}
    assert "same folder" in told["vda:/etc/deep/again"]
    assert "same folder" in told["vda:/usr/top"]
    assert any("cannot be names" in reason for reason in told.values())
    assert done.folders < 200
    assert "\x1b" not in "".join(told)
    assert os.listdir(place.parent) == ["out"]
    assert not list(tmp_path.rglob("*evil*"))
    assert (place / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
    assert not any(b"/" in os.fsencode(name) for name in os.listdir(place / "etc"))
    holes = place / "holes"
    if holes.exists():
        assert holes.stat().st_blocks * 512 < images.MIB
    else:
        assert "vda:/holes" in told
    count(Fault.FLIP, "names, sizes and folders made to hurt", 6)
