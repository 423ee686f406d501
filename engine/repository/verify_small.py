"""The small objects by which writers and collectors know of each other, and guards of points: each is read.

What cannot be read of them hurts no recovery point, but a collector that cannot read them deletes nothing, and a guard
that cannot be read guards until somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.errors import NewhopeError
from engine.repository.condemned import PREFIX as CONDEMNED
from engine.repository.condemned import WITNESSES
from engine.repository.errors import ObjectMissing, StorageFailed, Unsound
from engine.repository.frame import FrameKind, decode_frame
from engine.repository.guards import PREFIX as GUARDS
from engine.repository.identity import IDENTITY_KEY
from engine.repository.keys import Keys
from engine.repository.pending import PREFIX as PENDING
from engine.repository.storage import Storage
from engine.repository.verify_model import Finding, Severity

FOLDERS = (GUARDS, CONDEMNED, WITNESSES, PENDING)
HEALING = "healing/"


def check_small(
    storage: Storage, met: Callable[[], None] = lambda: None, keys: Keys | None = None
) -> Iterator[Finding]:
    """What is wrong with guards, with condemnations and their witnesses, with pending points, and with key slots."""
    for folder in FOLDERS:
        for entry in list(storage.list(folder)):
            met()
            try:
                decode_frame(entry.key, FrameKind.RECORD, storage.read(entry.key), keys)
            except ObjectMissing:
                continue
            except (Unsound, StorageFailed) as reason:
                yield Finding(entry.key, Severity.DAMAGE, _why(storage, reason))
    for entry in list(storage.list(HEALING)):
        what = "a repair was stopped while it brought this object back; the next one goes on with it"
        yield Finding(entry.key.removeprefix(HEALING), Severity.DAMAGE, what)


def _why(storage: Storage, reason: Exception) -> str:
    if not isinstance(reason, NewhopeError):
        return str(reason)
    # Of a storage that went away as a whole, no object may be called damaged: then this raises.
    storage.read(IDENTITY_KEY)
    return f"it cannot be read: {reason.what}"
