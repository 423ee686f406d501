"""The note that a restore leaves beside its new volumes: a host tells by itself what is being done to it, and by whom.

It holds the restore's journal entry: the decided request, every volume that is made, and, before an original is put
aside, all of what it was. With it any machine that reaches the host can undo the restore, also when the machine that
ran it is lost (`newhope restores find HOST`). It goes when the restore is committed or undone.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from engine.errors import NewhopeError
from engine.hosts import HostLane, take_snapshot, volumes
from engine.hosts.host_file import read_file
from engine.restore.journal import Entry

_NAME = re.compile(r"newhope-restore-[0-9a-f]{8}\.json")


def note_name(restore_id: str) -> str:
    """Name of the volume that holds the note."""
    return f"newhope-restore-{restore_id}.json"


def leave_note(lane: HostLane, entry: Entry) -> None:
    """Write the note, or write it anew. Raises NoSpace, HostRefused, HostUnreachable."""
    pool, name = entry.request.pool, note_name(entry.id)
    volumes.delete(lane, pool, name)
    volumes.put_file(lane, pool, name, msgspec.json.encode(entry))


def take_note_away(lane: HostLane, entry: Entry) -> None:
    """Remove the note; one that is gone is fine."""
    volumes.delete(lane, entry.request.pool, note_name(entry.id))


def find_notes(lane: HostLane) -> tuple[Entry, ...]:
    """What the notes on a host say, in all of its active pools. A note that cannot be read is passed over."""
    found: list[Entry] = []
    for pool in take_snapshot(lane).pools:
        if not pool.active or pool.path is None:
            continue
        for name in volumes.names(lane, pool.name):
            if _NAME.fullmatch(name) is None:
                continue
            try:
                found.append(msgspec.json.decode(read_file(lane, Path(pool.path) / name), type=Entry))
            except (NewhopeError, OSError, msgspec.DecodeError):
                continue
    return tuple(found)
