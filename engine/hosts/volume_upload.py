"""A disk written through libvirt alone, for hosts that give us neither a shell nor a socket for `qemu-nbd`.

Every piece is an upload of its own to its offset of a new, sparse, raw volume (`virStorageVolUpload`): pieces may come
in any order, and what is never sent stays a hole. It is slower than NBD, and it cannot write into a qcow2 image, whose
layout libvirt does not know. When an upload is finished, the daemon has written it to the disk (libvirt
`virFileDataSync` at the end of each stream).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.hosts.lane import HostLane
from engine.hosts.volumes import upload

if TYPE_CHECKING:
    import libvirt

_TIMEOUT_S = 300.0
_ZERO_BYTES = 4 << 20


class UploadedDisk:
    """See `disk_sink.DiskSink`; the lane lets one piece through at a time."""

    def __init__(self, lane: HostLane, path: str) -> None:
        self._lane = lane
        self._path = path

    def write(self, offset: int, content: bytes) -> None:
        """See DiskSink. Raises HostRefused, HostUnreachable."""

        def work(connection: libvirt.virConnect) -> None:
            upload(connection, connection.storageVolLookupByPath(self._path), content, offset)

        self._lane.run(work, timeout_s=_TIMEOUT_S)

    def zero(self, offset: int, length: int) -> None:
        """See DiskSink."""
        for start in range(offset, offset + length, _ZERO_BYTES):
            self.write(start, bytes(min(_ZERO_BYTES, offset + length - start)))

    def flush(self) -> None:
        """Each piece was made durable when it was written."""
