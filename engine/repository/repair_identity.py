"""The file `newhope-repository`, damaged or gone: what it said, from wherever that can be known and shown.

1. From a copy of it, or of the repository, that somebody names; or from itself, where one flipped bit is all that is
   wrong with it. A copy counts only if it fits what is stored: its size of blocks, whether all is sealed, and with
   which key.
2. Otherwise it is made anew. The size of blocks follows from the maps: how many names a root has, for how large a disk.
   The id of an encrypted repository stands in its key slots; that its master key opens what is stored proves both, and
   with it the new file is proven like the old one. The id of a plain repository stands nowhere else: it gets what can
   still be read of the damaged file, or a new one, and the plan says so. When it was created is then told as far as
   anything does.
3. What cannot be known is not guessed: an error says what is missing, and where it could come from.

Applying it copies the damaged file to `quarantine/`, deletes it and creates the sound one. Killed in between, the file
is missing; the next repair finds the same out again, and the copy too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.repository.disk_map import NAMES_A_NODE, blocks_of, height_of
from engine.repository.errors import (
    ObjectMissing,
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryTooNew,
    StorageFailed,
    Unsound,
)
from engine.repository.frame import HEADER, MAGIC, SEALED
from engine.repository.identity import (
    IDENTITY_KEY,
    LARGEST_BLOCK_BYTES,
    SMALLEST_BLOCK_BYTES,
    Identity,
    decode_identity,
    encode_identity,
    new_identity,
    proof_holds,
    proved,
)
from engine.repository.index import Index
from engine.repository.key_slots import PREFIX as SLOTS
from engine.repository.key_slots import slots_by_repository
from engine.repository.keys import Keys
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import read_manifest
from engine.repository.master_key import Secret, Unlock
from engine.repository.model import DiskRecord, FileRecord, Point
from engine.repository.quarantine import PREFIX as QUARANTINE
from engine.repository.quarantine import keep_copy
from engine.repository.reader import Reader
from engine.repository.storage import Storage
from engine.repository.unlocking import master_of

ROOTS_ASKED = 64
"""So many maps have to agree on the size of blocks, where there are that many."""
SIZES: tuple[int, ...] = tuple(
    1 << bits for bits in range(SMALLEST_BLOCK_BYTES.bit_length() - 1, LARGEST_BLOCK_BYTES.bit_length())
)
"""Every size that blocks may have."""
LARGEST_FILE = 4096
SALVAGED_ID = re.compile(rb'"id"\s*:\s*"([0-9a-f]{32})"')
SALVAGED_BLOCK_BYTES = re.compile(rb'"block_bytes"\s*:\s*([0-9]{4,8})\s*,')
SALVAGED_CREATED = re.compile(rb'"created"\s*:\s*"([0-9T:.+-]{19,32}Z?)"')


class IdentityCopy(Struct, frozen=True):
    """What somebody says is a copy of the file."""

    name: str
    content: bytes


class IdentityPlan(Struct, frozen=True):
    """How the file will be put back, as it is shown before."""

    location: str
    what: str
    """What is wrong with it, in a sentence."""
    does: tuple[str, ...]
    """Where each thing that it says comes from."""
    content: bytes
    """The file to be. Nothing in it is secret."""


def identity_damage(storage: Storage) -> str | None:
    """What is wrong with a repository's identity file; None if nothing is, or if there is no repository."""
    try:
        decode_identity(storage.read(IDENTITY_KEY), storage.location)
    except ObjectMissing:
        # Key slots alone are what a creation leaves that was killed: there is nothing to lose, and it is begun anew.
        there = any(next(iter(storage.list(prefix)), None) for prefix in ("packs/", POINTS))
        return f"The file {IDENTITY_KEY} is missing." if there else None
    except (RepositoryDamaged, RepositoryMissing) as error:
        return error.what
    except StorageFailed as error:
        return f"The file {IDENTITY_KEY} cannot be read: {error.what}"
    except RepositoryTooNew as error:
        # The version is looked at before the checksum, which a later version may reckon in another way.
        flipped = _without_flipped_bit(storage.read(IDENTITY_KEY), storage.location) is not None
        return f"{error.what} That is one flipped bit." if flipped else None
    return None


def plan_identity(
    storage: Storage, copies: Sequence[IdentityCopy], name: str, unlock: Unlock, *, expect_encrypted: bool = False
) -> IdentityPlan:
    """Find out what the file said. Changes nothing.

    Raises `RepositoryDamaged` where it cannot be known, and `RepositoryLocked` where a passphrase is needed for it.
    """
    what = identity_damage(storage) or "Nothing is wrong with it."
    ground = _Evidence(storage, name, unlock)
    if expect_encrypted and not ground.sealed:
        raise RepositoryDamaged(
            f"{what} A passphrase is kept for this repository, and nothing in {storage.location} is encrypted.",
            untouched="Nothing was changed.",
            next_step="Is this the right place, and is its file system mounted? Somebody may have exchanged it.",
        )
    refused: list[str] = []
    for copy in (*copies, *_itself(storage)):
        why = ground.refuses(copy.content)
        if why is None:
            doubt = () if ground.sealed else (ground.doubt(copy.content),)
            return IdentityPlan(storage.location, what, (f"it is brought back from {copy.name}", *doubt), copy.content)
        refused.append(f"{copy.name} is not a copy of it: {why}.")
    try:
        identity, does = ground.rebuilt()
    except RepositoryDamaged as error:
        raise RepositoryDamaged(
            " ".join((error.what, *refused)), untouched=error.untouched, next_step=error.next_step
        ) from error
    return IdentityPlan(storage.location, what, (*refused, *does), encode_identity(identity))


def apply_identity(storage: Storage, plan: IdentityPlan) -> str | None:
    """Put the file back; where the damaged one is kept, if there was one."""
    kept = None
    with suppress(ObjectMissing):
        kept = keep_copy(storage, IDENTITY_KEY)
        storage.delete(IDENTITY_KEY)
    storage.create(IDENTITY_KEY, plan.content)
    decode_identity(storage.read(IDENTITY_KEY), storage.location)
    return kept


class _Evidence:
    """What is stored, as far as it tells of its identity."""

    def __init__(self, storage: Storage, name: str, unlock: Unlock) -> None:
        self._storage = storage
        self._name = name
        self._unlock = unlock
        self._slots = slots_by_repository(storage)
        self.sealed = bool(self._slots) or next(iter(storage.list(SLOTS)), None) is not None or _sealed_point(storage)
        self._secret: Secret | None = None
        self._keys: dict[str, Keys] = {}
        self._sizes: tuple[int, ...] | None = None

    def refuses(self, content: bytes) -> str | None:
        """Why a file cannot be this repository's identity; None if it can."""
        try:
            identity = decode_identity(content, self._storage.location)
        except NewhopeError as error:
            return error.what.rstrip(".")
        if identity.encrypted != self.sealed:
            return "it is of an encrypted repository" if identity.encrypted else "what is stored here is encrypted"
        if identity.encrypted and identity.id not in self._slots:
            return "no key here is of the repository with its id"
        if identity.encrypted and not proof_holds(content, self._keys_of(identity.id)):
            return "it was not written by somebody with the master key of this repository"
        if identity.block_bytes not in self._block_sizes(identity.id):
            return f"what is stored here is not cut into blocks of {identity.block_bytes} bytes"
        return None

    def doubt(self, content: bytes) -> str:
        """What nobody can check about the copy of a plain repository's identity."""
        identity = decode_identity(content, self._storage.location)
        return f"its blocks fit what is stored; that its id {identity.id} is the right one nothing here can show"

    def rebuilt(self) -> tuple[Identity, tuple[str, ...]]:
        """The identity made anew, and where each thing in it comes from."""
        return self._encrypted() if self.sealed else self._plain()

    def _encrypted(self) -> tuple[Identity, tuple[str, ...]]:
        for repository_id, slots in self._slots.items():
            try:
                keys = self._keys_of(repository_id)
            except RepositoryLocked:
                if len(self._slots) == 1:
                    raise
                # A slot of another repository, which does not count, left here or put here.
                continue
            if not _opens(self._storage, keys):
                continue
            block_bytes, told = self._block_bytes(repository_id)
            identity = _with(new_identity(repository_id, block_bytes), _salvaged_created(self._storage) or slots[0])
            return proved(identity, keys), (
                f"its id {repository_id} is that of its keys, and its master key opens what is stored",
                told,
                f"it is said to be created {identity.created:%Y-%m-%d %H:%M:%SZ}, as its oldest key tells",
                "it is proven anew with the master key",
            )
        raise self._unknown(
            "none of its keys opens what is stored" if self._slots else "none of its keys can be read",
            f"Bring {IDENTITY_KEY} and keys/ back from a copy of the repository.",
        )

    def _plain(self) -> tuple[Identity, tuple[str, ...]]:
        block_bytes, told = self._block_bytes("")
        remains = _remains(self._storage)
        found = next((match.group(1).decode() for text in remains if (match := SALVAGED_ID.search(text))), None)
        created = _salvaged_created(self._storage) or min(
            (point.manifest.moment for point in _points(self._storage, None)), default=datetime.now(UTC)
        )
        identity = _with(new_identity(found or secrets.token_hex(16), block_bytes), created)
        return identity, (
            f"its id {found} is what the damaged file still says"
            if found
            else "its id stood nowhere else: it gets a new one. No point needs the old one; the next backup of each VM "
            "reads its disks whole",
            told,
            f"it is said to be created {identity.created:%Y-%m-%d %H:%M:%SZ}, as far as anything still tells",
            "nothing that is stored is encrypted",
        )

    def _block_bytes(self, repository_id: str) -> tuple[int, str]:
        sizes = self._block_sizes(repository_id)
        if len(sizes) == 1:
            return sizes[0], f"its blocks have {sizes[0]} bytes: no other size makes the maps that its points have"
        for text in _remains(self._storage):
            match = SALVAGED_BLOCK_BYTES.search(text)
            if match and int(match.group(1)) in sizes:
                return int(match.group(1)), f"its blocks have {match.group(1).decode()} bytes, as the damaged file says"
        raise self._unknown(
            "no recovery point that can be read tells the size of its blocks"
            if sizes
            else "its recovery points contradict each other about the size of its blocks",
            f"Give a copy of the file, or of the repository: newhope repo repair {self._storage.location} --from COPY.",
        )

    def _block_sizes(self, repository_id: str) -> tuple[int, ...]:
        """The sizes of blocks that all maps agree with."""
        if self._sizes is None:
            keys = self._keys_of(repository_id) if self.sealed else None
            self._sizes = _sizes_that_fit(self._storage, keys)
        return self._sizes

    def _keys_of(self, repository_id: str) -> Keys:
        if repository_id not in self._keys:
            if self._secret is None:
                self._secret = self._unlock(repository_id, self._name)
            master = master_of(self._storage, repository_id, self._name, self._secret)
            self._keys[repository_id] = Keys(master, repository_id)
        return self._keys[repository_id]

    def _unknown(self, why: str, next_step: str) -> RepositoryDamaged:
        what = identity_damage(self._storage) or f"The file {IDENTITY_KEY} is damaged."
        return RepositoryDamaged(
            f"{what} It cannot be made anew: {why}.",
            untouched="Nothing was changed; its recovery points are not lost.",
            next_step=next_step,
        )


def _sizes_that_fit(storage: Storage, keys: Keys | None) -> tuple[int, ...]:
    sizes: tuple[int, ...] = SIZES
    index = Index(storage)
    index.recover()
    reader = Reader(storage, new_identity("", SMALLEST_BLOCK_BYTES), index, keys)
    asked = 0
    for point in _points(storage, keys):
        for record in (*point.manifest.disks, *point.manifest.files):
            fitting = _fitting(reader, record)
            if fitting and asked < ROOTS_ASKED:
                sizes, asked = tuple(size for size in sizes if size in fitting), asked + 1
    return sizes


def _fitting(reader: Reader, record: DiskRecord | FileRecord) -> set[int]:
    """Sizes of blocks with which a disk has a root as long as its own; none if that cannot be read."""
    names_of: dict[int, set[int]] = {}
    for size in SIZES:
        blocks = blocks_of(record.size_bytes, size)
        if blocks and height_of(blocks) == record.map_height:
            names_of.setdefault(-(-blocks // NAMES_A_NODE**record.map_height), set()).add(size)
    for names, fitting in names_of.items():
        if record.map_root and reader.block_outside((), bytes.fromhex(record.map_root), names * 32) is not None:
            return fitting
    return set()


def _points(storage: Storage, keys: Keys | None) -> Iterator[Point]:
    for entry in list(storage.list(POINTS)):
        with suppress(Unsound, NewhopeError):
            yield read_manifest(storage, entry.key, "", keys)


def _opens(storage: Storage, keys: Keys) -> bool:
    """Whether keys open something; where there is no recovery point yet, there is nothing that they could not open."""
    entries = list(storage.list(POINTS))
    return not entries or next(_points(storage, keys), None) is not None


def _sealed_point(storage: Storage) -> bool:
    for entry in storage.list(POINTS):
        with suppress(NewhopeError):
            header = storage.read(entry.key, 0, HEADER.size)
            if len(header) == HEADER.size and header.startswith(MAGIC):
                return bool(HEADER.unpack(header)[4] & SEALED)
    return False


def _itself(storage: Storage) -> Iterator[IdentityCopy]:
    """The damaged file with each of its bits flipped back that makes it whole."""
    for content in _remains(storage):
        healed = _without_flipped_bit(content, storage.location)
        if healed is not None:
            yield IdentityCopy("its own checksum, which shows the one bit that was flipped", healed)


def _without_flipped_bit(content: bytes, location: str) -> bytes | None:
    tried = bytearray(content)
    for at in range(len(tried)):
        for bit in range(8):
            tried[at] ^= 1 << bit
            with suppress(NewhopeError, UnicodeDecodeError):
                # Whatever else the reading of JSON takes for the same: the file is written as it was.
                decode_identity(bytes(tried), location)
                return bytes(tried)
            tried[at] ^= 1 << bit
    return None


def _remains(storage: Storage) -> list[bytes]:
    """What is left of the file, and what an earlier repair kept of it."""
    found: list[bytes] = []
    for key in (IDENTITY_KEY, *(entry.key for entry in list(storage.list(QUARANTINE)) if _was_identity(entry.key))):
        with suppress(NewhopeError):
            found.append(storage.read(key)[:LARGEST_FILE])
    return found


def _was_identity(key: str) -> bool:
    return key.startswith(f"{QUARANTINE}{IDENTITY_KEY}.")


def _salvaged_created(storage: Storage) -> datetime | None:
    for text in _remains(storage):
        if match := SALVAGED_CREATED.search(text):
            with suppress(ValueError, msgspec.ValidationError):
                return msgspec.convert(json.loads(b'"' + match.group(1) + b'"'), datetime)
    return None


def _with(identity: Identity, created: datetime) -> Identity:
    return msgspec.structs.replace(identity, created=created.astimezone(UTC).replace(microsecond=0))
