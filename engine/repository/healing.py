"""Objects that a repair is bringing back: `healing/<key>` holds the sound content while the damaged one makes room.

A repair that is killed there may leave the only sound copy of a manifest or a guard in `healing/`, where nobody who
lists points or guards sees it; or it leaves a second one of a manifest that is in its place again. So whoever decides
what nobody needs any more must not decide before the repair has been gone on with: he would delete the blocks of a
point, or drop one that is protected, or have a dropped point come back without its blocks.
"""

from __future__ import annotations

from engine.repository.errors import RepositoryDamaged
from engine.repository.storage import Storage

HEALING = "healing/"


def unfinished(storage: Storage) -> list[str]:
    """Keys of objects that a repair was bringing back when it was stopped."""
    return [entry.key.removeprefix(HEALING) for entry in list(storage.list(HEALING))]


def expect_nothing_healing(storage: Storage) -> None:
    """Raises `RepositoryDamaged` while a repair has stopped in the middle of bringing something back."""
    found = unfinished(storage)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise RepositoryDamaged(
            f"A repair was stopped while it brought {found[0]}{more} back: what is needed cannot be told until then.",
            untouched="No recovery point was dropped, and nothing that one needs was deleted.",
            next_step="Let it go on: newhope repo repair. Then run this again.",
        )
