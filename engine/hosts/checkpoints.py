"""newhope's own checkpoints of a VM: the marks from which dirty bitmaps count (libvirt formatcheckpoint).

Every name is used once: a bitmap may outlive its checkpoint, and a second one of that name would be refused. Only
checkpoints whose name has our form are ever listed or deleted; others belong to somebody else's backups.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.hosts.errors import CHECKPOINT_INCONSISTENT, NO_DOMAIN_CHECKPOINT

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

DELETE_TIMEOUT_S = 60.0

_OWN_NAME = re.compile(r"newhope-\d{8}T\d{6}Z-[0-9a-f]{6}")


def new_name(now: datetime | None = None) -> str:
    """A name for a new checkpoint, never used before: `newhope-20261122T081300Z-a1b2c3`."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"newhope-{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def is_own(name: str) -> bool:
    """Whether a checkpoint of that name is newhope's."""
    return _OWN_NAME.fullmatch(name) is not None


def own_checkpoints(lane: HostLane, uuid: str) -> tuple[str, ...]:
    """Names of newhope's checkpoints of a VM, oldest first. Raises HostUnreachable, MissingOnHost."""

    def read(connection: libvirt.virConnect) -> list[str]:
        return [checkpoint.getName() for checkpoint in connection.lookupByUUIDString(uuid).listAllCheckpoints()]

    return tuple(sorted(filter(is_own, lane.run(read))))


def delete(lane: HostLane, uuid: str, name: str) -> bool:
    """Delete one of newhope's checkpoints with its bitmaps; whether it is gone.

    What it had recorded goes to the checkpoint before it, so nothing is lost for that one. If a bitmap has vanished
    (QEMU was killed, the image was converted), libvirt can only forget the checkpoint, which is done. A VM that is off
    keeps it: libvirt cannot reach the bitmap then, so it waits for a later call. One that is gone already is fine.
    Raises HostUnreachable, HostRefused, MissingOnHost (no such VM), and ValueError for a name that is not newhope's.
    """
    if not is_own(name):
        raise ValueError(f"{name} is not a checkpoint of newhope")

    def carry_out(connection: libvirt.virConnect) -> bool:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        try:
            checkpoint = domain.checkpointLookupByName(name)
            checkpoint.delete()
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if code == NO_DOMAIN_CHECKPOINT:
                return True
            if not domain.isActive():
                return False
            if not _bitmap_gone(code, str(error)):
                raise
            domain.checkpointLookupByName(name).delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        return True

    return lane.run(carry_out, timeout_s=DELETE_TIMEOUT_S)


def _bitmap_gone(code: int | None, text: str) -> bool:
    # libvirt 9.0 says so with code 1, which stands for many things.
    return code == CHECKPOINT_INCONSISTENT or ("bitmap" in text and "not found" in text)
