"""Which file system a folder is on."""

from __future__ import annotations

from pathlib import Path

from engine.repository.mounted import file_system_of

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /mnt rw - nfs4 server:/export rw
31 30 0:26 / /mnt/with\\040blank rw shared:1 - xfs /dev/vdb rw
32 22 0:27 / /over rw - ext4 /dev/vdc rw
33 22 0:28 / /over rw - tmpfs tmpfs rw
nonsense
"""


def test_the_deepest_mount_counts_and_of_two_the_one_on_top(tmp_path: Path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    kinds = {
        place: file_system_of(Path(place), mounts)
        for place in ("/", "/srv/x", "/mnt", "/mnt/x", "/mnt/with blank/x", "/mntx", "/over/x")
    }

    assert kinds == {
        "/": "ext4",
        "/srv/x": "ext4",
        "/mnt": "nfs4",
        "/mnt/x": "nfs4",
        "/mnt/with blank/x": "xfs",
        "/mntx": "ext4",
        "/over/x": "tmpfs",
    }


def test_where_the_kernel_does_not_say_it_is_not_known(tmp_path: Path):
    assert file_system_of(tmp_path, tmp_path / "none") is None


def test_this_machine_s_kernel_says(tmp_path: Path):
    assert file_system_of(tmp_path)
