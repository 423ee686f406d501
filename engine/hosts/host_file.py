"""Small files of a host, read whole: straight from its disk where that is allowed, else through its storage pools.

1. Where the host's files can be reached, read it. In system mode the NVRAM belongs to the QEMU user alone, so this
   may be refused.
2. Ask whether a pool knows the path, and download the volume.
3. Make a transient pool over the file's folder for a moment. It changes nothing in the folder, and is gone after.
"""

from __future__ import annotations

import uuid
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from engine.hosts.busy_pool import run_when_free
from engine.hosts.errors import NO_STORAGE_POOL, NO_STORAGE_VOLUME
from engine.hosts.lane import HostLane

if TYPE_CHECKING:
    import libvirt

LARGEST_BYTES = 1 << 30
_PIECE_BYTES = 256 * 1024
_TIMEOUT_S = 120.0


def read_file(lane: HostLane, path: Path) -> bytes:
    """The content of a file on the host. Raises MissingOnHost or OSError."""
    if lane.files.reachable:
        try:
            return lane.files.read(path)
        except PermissionError:
            pass
        except FileNotFoundError:
            # It may be a name that only the host's own mount namespace has; the host has the last word.
            pass
    return run_when_free(lane, lambda connection: _download(connection, path), timeout_s=_TIMEOUT_S)


def _download(connection: libvirt.virConnect, path: Path) -> bytes:
    import libvirt

    try:
        return _content(connection, connection.storageVolLookupByPath(str(path)))
    except libvirt.libvirtError as error:
        if error.get_error_code() != NO_STORAGE_VOLUME:
            raise
    try:
        pool = connection.storagePoolLookupByTargetPath(str(path.parent))
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (NO_STORAGE_POOL, NO_STORAGE_VOLUME):
            raise
    else:
        pool.refresh()
        return _content(connection, pool.storageVolLookupByName(path.name))
    pool = connection.storagePoolCreateXML(
        f"<pool type='dir'><name>newhope-read-{uuid.uuid4()}</name>"
        f"<target><path>{escape(str(path.parent), quote=False)}</path></target></pool>"
    )
    try:
        return _content(connection, pool.storageVolLookupByName(path.name))
    finally:
        pool.destroy()


def _content(connection: libvirt.virConnect, volume: libvirt.virStorageVol) -> bytes:
    stream = connection.newStream()
    volume.download(stream, 0, 0)
    pieces: list[bytes] = []
    total = 0
    try:
        while piece := stream.recv(_PIECE_BYTES):
            pieces.append(piece)
            total += len(piece)
            if total > LARGEST_BYTES:
                raise OSError(f"it is larger than {LARGEST_BYTES} bytes")
    except BaseException:
        stream.abort()
        raise
    stream.finish()
    return b"".join(pieces)
