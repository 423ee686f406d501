"""Small objects that cannot be read: where their own content may still be, and what it means to do without them.

A small object is framed, and its checksum covers its key. So whatever is found to match the checksum is what was
written under that key, wherever it was found:

1. in an object of the same kind that is damaged too, because the two were exchanged, or one was copied over another;
2. in the object itself, after a flipped bit is flipped back (`one_bit`);
3. in another repository, under the same key.

Bringing it back takes five steps, each of which can be done again: the damaged one is copied to `quarantine/`, the
sound content is created as `healing/<key>`, the damaged object is deleted, the sound one created in its place, and
`healing/<key>` deleted. A repair that was killed in between leaves `healing/<key>`, and the next one goes on there.

An object that cannot be healed is moved to `quarantine/` where that gives up nothing; otherwise only on request:

    records, witnesses     nothing that a point needs: records are for people, witnesses are written anew
    copies of an object    nothing: what it holds is in its own place
    a manifest             its point is no longer listed, and the next collection frees what only that point needs
    a guard                a pin takes its place, so that the point stays until somebody unpins it
    a condemnation         it is taken back: no collector that was taken for dead may still be about to delete its packs
    a pending point        a backup that is about to commit would lose blocks: nobody may be writing
    a key slot             its passphrase no longer opens the repository
    a lease                its holder, if it still works, ends with an error instead of committing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from engine.repository.errors import ObjectMissing, StorageFailed, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.guards import PREFIX as GUARDS
from engine.repository.healing import HEALING
from engine.repository.keys import Keys
from engine.repository.one_bit import without_flipped_bit
from engine.repository.quarantine import PREFIX as QUARANTINE
from engine.repository.quarantine import keep_copy, original_of
from engine.repository.repair_ground import Ground
from engine.repository.storage import Storage

KINDS = {
    "points/": FrameKind.POINT,
    "leases/": FrameKind.LEASE,
    "records/": FrameKind.RECORD,
    GUARDS: FrameKind.RECORD,
    "condemned/": FrameKind.RECORD,
    "pending/": FrameKind.RECORD,
    "witnesses/": FrameKind.RECORD,
    "keys/": FrameKind.KEY,
}
GIVES_NOTHING_UP = ("records/", "witnesses/")
NEVER_HEALED = ("leases/",)
"""Their holders delete and renew them: what was brought back could be one that is over."""


class Meaning(Struct, frozen=True):
    """What it means to do without an object."""

    does: str
    """What setting it aside does."""
    advice: str
    """What to do before it is asked for."""


MEANINGS = {
    "points/": Meaning(
        "its recovery point is no longer listed, and the next prune frees what only that point needs",
        "Give a repository that has the point with --from, or bring the file back from a copy; "
        "if it is lost, --set-aside takes it out of the list, and the next prune frees what only it needs.",
    ),
    GUARDS: Meaning(
        "a pin takes its place: the point stays until somebody unpins it",
        "It guards its point as it is. --set-aside puts a pin in its place.",
    ),
    "condemned/": Meaning(
        "the packs that it names are leaned on again as long as no prune condemns them anew",
        "Until then nothing is collected, and backups store everything anew. When no newhope repo prune hangs "
        "anywhere, on no host, --set-aside takes it away.",
    ),
    "pending/": Meaning(
        "a prune no longer knows what a backup was about to commit",
        "Until then nothing is collected. When no backup to this repository runs on any host, --set-aside takes it "
        "away.",
    ),
    "keys/": Meaning(
        "its passphrase opens the repository no more, others still do",
        "Bring the file back from a copy of the repository, or --from a copy. Otherwise add the passphrase again "
        "(newhope repo key add), and take the damaged one out with --set-aside.",
    ),
    "leases/": Meaning(
        "whoever holds it, if it still works, ends with an error and commits nothing",
        "A prune waits for its holder, whom nobody can tell. When no backup runs, --set-aside takes it away.",
    ),
}


class Cure(Struct, frozen=True):
    """The content that an object had."""

    content: bytes
    source: str
    """Where it was found, as in: `brought back from ...`."""


class ObjectSource(Protocol):
    """Another repository, as somewhere to find small objects."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def payload(self, key: str, kind: FrameKind) -> bytes | None:
        """What is framed in an object of this key; None if it has none, or none that is sound."""
        ...


def prefix_of(key: str) -> str:
    """The folder at the top that a key lies in, with its slash."""
    return key.partition("/")[0] + "/"


def find_cure(ground: Ground, key: str, sources: Sequence[ObjectSource]) -> Cure | None:
    """The content that belongs under a key, if it can be found anywhere."""
    prefix = prefix_of(key)
    kind = KINDS[prefix]
    if prefix in NEVER_HEALED:
        return None
    own = _read(ground.storage, key)
    for other, content in _others_of_its_kind(ground.storage, key):
        if _sound(ground, key, kind, content):
            return Cure(content, f"{other}, where it lies")
    healed = None if own is None else without_flipped_bit(key, kind, own, _keys_for(ground, kind))
    if healed is not None and _sound(ground, key, kind, healed):
        return Cure(healed, "its checksum, which shows the one bit that was flipped")
    for source in sources:
        payload = source.payload(key, kind)
        if payload is not None:
            return Cure(encode_frame(key, kind, payload, _keys_for(ground, kind)), f"the repository {source.name}")
    return None


def is_copy(ground: Ground, key: str) -> str | None:
    """The key of a sound object that an object is a mere copy of; None if it is not."""
    prefix = prefix_of(key)
    own = _read(ground.storage, key)
    for entry in list(ground.storage.list(prefix)):
        if own is None or entry.key == key or entry.size_bytes != len(own):
            continue
        if _sound(ground, entry.key, KINDS[prefix], own) and _read(ground.storage, entry.key) == own:
            return entry.key
    return None


def is_sound(ground: Ground, key: str) -> bool:
    """Whether an object is there and can be read."""
    content = _read(ground.storage, key)
    return content is not None and _sound(ground, key, KINDS[prefix_of(key)], content)


def heal(ground: Ground, key: str, content: bytes, may_delete: Callable[[], None]) -> None:
    """Put a sound content in the place of a damaged object, which is kept in `quarantine/`."""
    storage = ground.storage
    with suppress(ObjectMissing):
        keep_copy(storage, key)
    # Of a repair that was killed before it deleted anything; it may hold the same, sealed differently.
    storage.delete(HEALING + key)
    storage.create(HEALING + key, content)
    finish_healing(ground, key, may_delete)


def finish_healing(ground: Ground, key: str, may_delete: Callable[[], None]) -> bool:
    """Go on with what is to become of `healing/<key>`; whether an object was put in its place."""
    storage = ground.storage
    content = _read(storage, HEALING + key)
    brought = False
    if content is not None and _sound(ground, key, KINDS[prefix_of(key)], content) and not is_sound(ground, key):
        may_delete()
        storage.delete(key)
        storage.create(key, content)
        brought = True
    elif content is not None and not is_sound(ground, key):
        # What was to take its place was damaged in turn: it is kept as well.
        keep_copy(storage, HEALING + key)
    may_delete()
    storage.delete(HEALING + key)
    return brought


def _others_of_its_kind(storage: Storage, key: str) -> Iterable[tuple[str, bytes]]:
    prefix = prefix_of(key)
    for folder in (prefix, QUARANTINE + prefix):
        for entry in list(storage.list(folder)):
            if entry.key != key and (content := _read(storage, entry.key)) is not None:
                yield (entry.key if folder == prefix else original_of(entry.key)), content


def _sound(ground: Ground, key: str, kind: FrameKind, content: bytes) -> bool:
    try:
        decode_frame(key, kind, content, _keys_for(ground, kind))
    except Unsound:
        return False
    return True


def _keys_for(ground: Ground, kind: FrameKind) -> Keys | None:
    """Key slots are what leads to the keys: they are not sealed with them."""
    return None if kind is FrameKind.KEY else ground.keys


def _read(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.read(key)
    except (ObjectMissing, StorageFailed):
        return None
