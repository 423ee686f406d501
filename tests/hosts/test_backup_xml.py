"""The XML of backup jobs, without a host."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import libvirt
import pytest

from engine.hosts import backup_xml, pull_backup
from engine.hosts.backup_xml import DiskOfJob


def attributes(xml: str, path: str) -> list[dict[str, str]]:
    return [element.attrib for element in ElementTree.fromstring(xml).iterfind(path)]


def test_every_disk_is_named_wanted_or_not() -> None:
    xml = backup_xml.backup(Path("/s/x.sock"), [DiskOfJob("vda", Path("/s/x.vda"))], ["sda"])

    assert attributes(xml, "server") == [{"transport": "unix", "socket": "/s/x.sock"}]
    assert attributes(xml, "disks/disk") == [
        {"name": "vda", "exportname": "vda", "backup": "yes", "type": "file", "backupmode": "full"},
        {"name": "sda", "backup": "no"},
    ]
    assert attributes(xml, "disks/disk/scratch") == [{"file": "/s/x.vda"}]


def test_each_disk_says_for_itself_whether_it_is_read_since_a_checkpoint() -> None:
    disks = [DiskOfJob("vda", Path("/s/x.vda"), since="newhope-1"), DiskOfJob("vdb", Path("/s/x.vdb"))]

    xml = backup_xml.backup(Path("/s/x.sock"), disks, [])

    modes = [
        (each.get("backupmode"), each.get("incremental"), each.get("exportbitmap"))
        for each in attributes(xml, "disks/disk")
    ]
    assert modes == [("incremental", "newhope-1", backup_xml.BITMAP), ("full", None, None)]


def test_a_path_with_markup_in_it_stays_a_path() -> None:
    xml = backup_xml.backup(Path("/s/<a&b>'\".sock"), [], [])

    assert attributes(xml, "server")[0]["socket"] == "/s/<a&b>'\".sock"


def test_a_checkpoint_leaves_out_disks_that_cannot_hold_bitmaps() -> None:
    xml = backup_xml.checkpoint("newhope-1", ["vda"], ["vdb", "sda"])

    assert ElementTree.fromstring(xml).findtext("name") == "newhope-1"
    assert attributes(xml, "disks/disk") == [
        {"name": "vda", "checkpoint": "bitmap"},
        {"name": "vdb", "checkpoint": "no"},
        {"name": "sda", "checkpoint": "no"},
    ]


def test_a_running_job_tells_its_files() -> None:
    disks = [DiskOfJob("vda", Path("/s/x.vda")), DiskOfJob("vdb", Path("/s/x.vdb"))]
    xml = backup_xml.backup(Path("/s/x.sock"), disks, ["sda"])

    assert backup_xml.running_backup(xml) == backup_xml.RunningBackup(
        Path("/s/x.sock"), (Path("/s/x.vda"), Path("/s/x.vdb"))
    )


def test_a_push_job_of_somebody_else_has_no_socket() -> None:
    disk = "<disk name='vda' backup='yes'><target file='/b'/></disk>"
    xml = f"<domainbackup mode='push'><disks>{disk}</disks></domainbackup>"

    assert backup_xml.running_backup(xml) == backup_xml.RunningBackup(None, (), (Path("/b"),))


@pytest.mark.parametrize(
    ("here", "daemon", "flags"), [(11_010_000, 11_010_000, 2), (11_010_000, 11_009_000, 0), (9_000_000, 12_000_000, 0)]
)
def test_a_guest_that_shuts_down_is_kept_only_where_both_libvirts_can(
    monkeypatch: pytest.MonkeyPatch, here: int, daemon: int, flags: int
) -> None:
    # Newer than the libvirt of this machine: only the choice is tried.
    monkeypatch.setattr(libvirt, "VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN", 2, raising=False)
    monkeypatch.setattr(libvirt, "getVersion", lambda: here)

    assert pull_backup.begin_flags(daemon) == flags
