"""Volumes of storage pools: where restored disks and the small files beside them are made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement

from msgspec import Struct

from engine.errors import NewhopeError, NoSpace
from engine.hosts.busy_pool import run_when_free
from engine.hosts.errors import NO_STORAGE_POOL, NO_STORAGE_VOLUME, STORAGE_VOLUME_EXISTS
from engine.hosts.files_of_host import HostFiles
from engine.hosts.lane import HostLane
from engine.hosts.names import not_found
from engine.hosts.uri import is_system
from engine.hosts.xml_tree import parse, text_of, to_bytes

if TYPE_CHECKING:
    import libvirt

_CREATE_TIMEOUT_S = 60.0
_UPLOAD_TIMEOUT_S = 300.0
_PIECE_BYTES = 256 * 1024
_FILE_POOLS = ("dir", "fs", "netfs", "gluster", "vstorage")
"""Kinds of pools whose volumes are files, and so may be sparse."""


def holds_files(kind: str) -> bool:
    """Whether the volumes of a pool of this kind are files."""
    return kind in _FILE_POOLS


class PoolNotActive(NewhopeError):
    """A storage pool that is to be used is defined but not started."""


def create(lane: HostLane, pool: str, name: str, image_format: str, capacity_bytes: int) -> str:
    """Make an empty, sparse volume and return its path. `image_format` is `raw` or `qcow2` (version 3).

    Raises ExistsOnHost, NotFound or PoolNotActive for the pool, NoSpace, HostRefused.
    """

    def work(connection: libvirt.virConnect) -> str:
        storage = _pool(connection, lane, pool)
        return _create(storage, name, image_format, capacity_bytes, _owner(lane)).path()

    return run_when_free(lane, work, timeout_s=_CREATE_TIMEOUT_S)


def put_file(lane: HostLane, pool: str, name: str, content: bytes) -> str:
    """Store a small file (kernel, NVRAM, ...) as a volume of exactly its size, and return its path.

    Raises what `create` raises; nothing is left behind then.
    """

    def work(connection: libvirt.virConnect) -> str:
        storage = _pool(connection, lane, pool)
        _raise_if_full(storage, lane, len(content))
        volume = _create(storage, name, "raw", len(content), _owner(lane))
        try:
            if content:
                upload(connection, volume, content)
        except BaseException:
            volume.delete()
            raise
        return volume.path()

    return run_when_free(lane, work, timeout_s=_UPLOAD_TIMEOUT_S)


class MadeSure(Struct, frozen=True):
    """A volume that is there."""

    path: str
    existed: bool
    block: bool
    """Whether it is a block device rather than a file."""


def make_sure(lane: HostLane, pool: str, name: str, image_format: str, capacity_bytes: int) -> MadeSure:
    """A volume, made as by `create` if it is not there.

    For who wrote down before that the volume of this name is theirs. Raises what `create` raises.
    """

    def work(connection: libvirt.virConnect) -> MadeSure:
        import libvirt

        storage = _pool(connection, lane, pool)
        volume = _find(storage, name)
        existed = volume is not None
        if volume is None:
            volume = _create(storage, name, image_format, capacity_bytes, _owner(lane))
        return MadeSure(volume.path(), existed, volume.info()[0] == libvirt.VIR_STORAGE_VOL_BLOCK)

    return run_when_free(lane, work, timeout_s=_CREATE_TIMEOUT_S)


def names(lane: HostLane, pool: str) -> tuple[str, ...]:
    """Names of all volumes of a pool, those included that something else made since the pool was started."""

    def work(connection: libvirt.virConnect) -> tuple[str, ...]:
        storage = _pool(connection, lane, pool)
        storage.refresh()
        return tuple(sorted(storage.listVolumes()))

    return run_when_free(lane, work, timeout_s=_CREATE_TIMEOUT_S)


def delete_path(lane: HostLane, path: str) -> bool:
    """Remove the volume at a path; whether there was a pool that had it."""

    def work(connection: libvirt.virConnect) -> bool:
        import libvirt

        try:
            connection.storageVolLookupByPath(path).delete()
        except libvirt.libvirtError as error:
            if error.get_error_code() != NO_STORAGE_VOLUME:
                raise
            return False
        return True

    return run_when_free(lane, work, timeout_s=_CREATE_TIMEOUT_S)


def delete(lane: HostLane, pool: str, name: str) -> None:
    """Remove a volume; one that is not there is fine."""

    def work(connection: libvirt.virConnect) -> None:
        volume = _find(_pool(connection, lane, pool), name)
        if volume is not None:
            volume.delete()

    run_when_free(lane, work, timeout_s=_CREATE_TIMEOUT_S)


def exists(lane: HostLane, pool: str, name: str) -> bool:
    """Whether the pool has a volume of that name, also one that something else made since the pool was started."""
    return run_when_free(lane, lambda connection: _find(_pool(connection, lane, pool), name) is not None)


def path_of(lane: HostLane, pool: str, name: str) -> str:
    """The path of a volume. Raises MissingOnHost."""
    return lane.run(lambda connection: _pool(connection, lane, pool).storageVolLookupByName(name).path())


def free_bytes(lane: HostLane, pool: str) -> int:
    """What the pool says is available."""
    return lane.run(lambda connection: available_bytes(_pool(connection, lane, pool), lane.files))


def available_bytes(pool: libvirt.virStoragePool, files: HostFiles) -> int:
    """What can really be written to a pool.

    libvirt counts what a file system reserves for root, which QEMU and session daemons do not get; for a folder
    that can be reached the file system itself is asked.
    """
    available = pool.info()[3]
    root = parse(pool.XMLDesc())
    folder = text_of(root, "target/path")
    if folder is None or root.get("type") not in _FILE_POOLS or not pool.isActive():
        return available
    return min(available, files.free_bytes((Path(folder),)).get(Path(folder), available))


def _create(
    pool: libvirt.virStoragePool, name: str, image_format: str, capacity_bytes: int, owner: int | None
) -> libvirt.virStorageVol:
    import libvirt

    xml = _volume_xml(pool, name, image_format, capacity_bytes, owner)
    try:
        return pool.createXML(xml)
    except libvirt.libvirtError as error:
        if error.get_error_code() != STORAGE_VOLUME_EXISTS:
            raise
    # The pool remembers volumes whose files something else removed: look again before believing it.
    pool.refresh()
    return pool.createXML(xml)


def _owner(lane: HostLane) -> int | None:
    """Whom the daemon must give a new volume to, so that we can write it; None if that needs nothing."""
    if not is_system(lane.host.uri):
        return None
    return lane.reach.files.user_id() or None


def _volume_xml(
    pool: libvirt.virStoragePool, name: str, image_format: str, capacity_bytes: int, owner: int | None
) -> str:
    files = parse(pool.XMLDesc()).get("type") in _FILE_POOLS
    volume = Element("volume")
    SubElement(volume, "name").text = name
    SubElement(volume, "capacity", unit="bytes").text = str(capacity_bytes)
    # Volumes that are no files (LVM, ...) cannot be sparse; asked for that, libvirt would make odd ones.
    SubElement(volume, "allocation", unit="bytes").text = "0" if files else str(capacity_bytes)
    target = SubElement(volume, "target")
    SubElement(target, "format", type=image_format)
    if image_format == "qcow2":
        # libvirt still makes version 2 by default, which cannot keep dirty bitmaps.
        SubElement(target, "compat").text = "1.1"
    if files and owner is not None:
        # The daemon would make it root's; when a VM uses it, libvirt gives it to QEMU.
        permissions = SubElement(target, "permissions")
        SubElement(permissions, "mode").text = "0600"
        SubElement(permissions, "owner").text = str(owner)
    return to_bytes(volume).decode()


def _pool(connection: libvirt.virConnect, lane: HostLane, name: str) -> libvirt.virStoragePool:
    import libvirt

    try:
        pool = connection.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != NO_STORAGE_POOL:
            raise
        known = [pool.name() for pool in connection.listAllStoragePools()]
        raise not_found(
            f"storage pool on host {lane.host.name}",
            name,
            known,
            next_step=f"It has: {', '.join(sorted(known)) or 'none; make one with virsh pool-define-as'}.",
        ) from None
    if not pool.isActive():
        raise PoolNotActive(
            f"Storage pool {name} of host {lane.host.name} is not started.",
            next_step=f"Start it on the host: virsh pool-start {name}",
        )
    return pool


def _find(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
    import libvirt

    for attempt in (1, 2):
        try:
            return pool.storageVolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != NO_STORAGE_VOLUME:
                raise
        if attempt == 1:
            pool.refresh()
    return None


def _raise_if_full(pool: libvirt.virStoragePool, lane: HostLane, needed_bytes: int) -> None:
    available = available_bytes(pool, lane.files)
    if available < needed_bytes:
        raise NoSpace(
            f"Storage pool {pool.name()} of host {lane.host.name} has {available:,} bytes left of "
            f"{needed_bytes:,} that are needed.",
            next_step="Free space there, or choose another pool.",
        )


def upload(connection: libvirt.virConnect, volume: libvirt.virStorageVol, content: bytes, offset: int = 0) -> None:
    """Write bytes to a place in a volume. Within a lane's work; raises libvirt's error."""
    stream = connection.newStream()
    volume.upload(stream, offset, len(content))
    rest = memoryview(content)
    try:
        while rest:
            sent = stream.send(bytes(rest[:_PIECE_BYTES]))
            rest = rest[sent:]
    except BaseException:
        stream.abort()
        raise
    stream.finish()
