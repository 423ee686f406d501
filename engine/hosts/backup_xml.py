"""The XML that a pull backup needs, to and from values (libvirt formatbackup, formatcheckpoint). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from msgspec import Struct

from engine.hosts.xml_tree import parse

BITMAP = "newhope-changes"
"""Name that a disk's dirty bitmap has in the job's NBD export."""


class DiskOfJob(Struct, frozen=True):
    """What the job does with one disk."""

    target: str
    scratch: Path
    since: str | None = None
    """Checkpoint from which its dirty bitmap counts; None if the whole disk is asked for."""


class TlsListener(Struct, frozen=True):
    """Where a job's NBD server listens, if not on its Unix socket: on a port of the host, with TLS required."""

    address: str
    port: int


class RunningBackup(Struct, frozen=True):
    """The files of a backup job that runs."""

    socket: Path | None
    """Of a job that serves over TCP, the socket that it would have had: named like its scratch files, it says whose the
    job is."""
    scratch: tuple[Path, ...]
    targets: tuple[Path, ...] = ()
    """Where a push job writes to."""


def backup(listens: Path | TlsListener, wanted: Iterable[DiskOfJob], left_out: Iterable[str]) -> str:
    """A pull job over some disks at once: their NBD exports are named as the guest names them.

    Every disk says for itself whether it is read since a checkpoint: one `<incremental>` for all of them would be
    refused as soon as one disk has no such bitmap (code 109).
    """
    root = ElementTree.Element("domainbackup", mode="pull")
    if isinstance(listens, TlsListener):
        where = {"transport": "tcp", "tls": "yes", "name": listens.address, "port": str(listens.port)}
    else:
        where = {"transport": "unix", "socket": str(listens)}
    ElementTree.SubElement(root, "server", where)
    disks = ElementTree.SubElement(root, "disks")
    for each in wanted:
        mode = {"backupmode": "full"}
        if each.since is not None:
            mode = {"backupmode": "incremental", "incremental": each.since, "exportbitmap": BITMAP}
        name = {"name": each.target, "exportname": each.target}
        disk = ElementTree.SubElement(disks, "disk", {**name, "backup": "yes", "type": "file", **mode})
        ElementTree.SubElement(disk, "driver", type="qcow2")
        ElementTree.SubElement(disk, "scratch", file=str(each.scratch))
    for target in left_out:
        ElementTree.SubElement(disks, "disk", name=target, backup="no")
    return ElementTree.tostring(root, encoding="unicode")


def checkpoint(name: str, with_bitmap: Iterable[str], without: Iterable[str]) -> str:
    """A checkpoint; every disk that cannot hold a bitmap must be named, or libvirt refuses them all (code 67)."""
    root = ElementTree.Element("domaincheckpoint")
    ElementTree.SubElement(root, "name").text = name
    disks = ElementTree.SubElement(root, "disks")
    for target in with_bitmap:
        ElementTree.SubElement(disks, "disk", name=target, checkpoint="bitmap")
    for target in without:
        ElementTree.SubElement(disks, "disk", name=target, checkpoint="no")
    return ElementTree.tostring(root, encoding="unicode")


def checkpoint_again(name: str, created: datetime, targets: Iterable[str]) -> str:
    """A checkpoint as libvirt would describe one of these disks, for a host that does not know it (any more)."""
    root = ElementTree.Element("domaincheckpoint")
    ElementTree.SubElement(root, "name").text = name
    ElementTree.SubElement(root, "creationTime").text = str(int(created.timestamp()))
    disks = ElementTree.SubElement(root, "disks")
    for target in targets:
        ElementTree.SubElement(disks, "disk", name=target, checkpoint="bitmap", bitmap=name)
    return ElementTree.tostring(root, encoding="unicode")


def running_backup(job_xml: str) -> RunningBackup:
    """What `virDomainBackupGetXMLDesc` says of a job, newhope's or not."""
    root = parse(job_xml)
    server = root.find("server")
    socket = server.get("socket") if server is not None else None

    def files(what: str) -> tuple[Path, ...]:
        elements = root.iterfind(f"./disks/disk/{what}")
        return tuple(Path(path) for each in elements if (path := each.get("file") or each.get("dev")))

    scratch = files("scratch")
    over_tcp = server is not None and server.get("transport") == "tcp" and scratch
    return RunningBackup(
        socket=Path(socket) if socket else scratch[0].with_suffix(".sock") if over_tcp else None,
        scratch=scratch,
        targets=files("target"),
    )
