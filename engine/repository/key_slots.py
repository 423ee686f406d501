"""Key slots: the master key of an encrypted repository, sealed by a passphrase. One object each, `keys/<id>`.

1. A passphrase and random salt become a key by Argon2id, which is slow and takes memory on purpose: so is guessing.
2. That key seals the master key (AES-256-GCM). Everything else in the slot is bound to it, the repository's id first: a
   slot of another repository opens nothing, nor does one whose figures were changed.
3. A slot is created and never changed. Its name and the figures stand in the clear, in a plain frame (`frame`), so that
   damage is found without a passphrase.
4. The first slot is created before the identity: a repository that is there can be opened. A slot that bears another
   repository's id is left of a creation that did not come that far, or was put there; it does not count.
5. A passphrase is taken away by deleting its slot. The master key stays the same: who opened the repository before, and
   kept the master key, or a copy of the slot and the passphrase, can still read what he gets hold of.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from datetime import UTC, datetime
from typing import cast

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from msgspec import Struct

from engine.repository.errors import ObjectMissing, RepositoryLocked, Unsound
from engine.repository.frame import FrameCodec, FrameKind, decode_frame, encode_frame
from engine.repository.master_key import MasterKey, Passphrase
from engine.repository.model import DamagedObject
from engine.repository.storage import Storage

PREFIX = "keys/"
SLOT_KEY = re.compile(r"keys/[0-9a-f]{16}")
SLOT_VERSION = 1
KDF = "argon2id"
SALT_BYTES = 16
NONCE_BYTES = 12
_stretching = threading.Lock()
"""Held while a passphrase is tried. OpenSSL shares its threads among all of a process: with two at once one finds none
left, and says that there is no memory. It also keeps the memory of one try the most that is used."""


class Cost(Struct, frozen=True):
    """What trying one passphrase costs."""

    memory_kib: int
    passes: int
    lanes: int


USUAL_COST = Cost(memory_kib=64 * 1024, passes=3, lanes=4)
LARGEST_COST = Cost(memory_kib=1024 * 1024, passes=64, lanes=64)
"""A slot that asks for more is refused: it would let whoever can write to the storage stop us."""


class KeySlot(Struct, frozen=True):
    """A passphrase of a repository, as people know it."""

    id: str
    """16 hex digits."""
    name: str
    created: datetime


class SealedKey(Struct, frozen=True):
    """What a slot holds."""

    slot: KeySlot
    cost: Cost
    salt: bytes
    nonce: bytes
    sealed: bytes
    bound: bytes
    """What cannot be changed without the seal showing it: everything in the slot but `sealed`."""


class _Payload(Struct, frozen=True):
    version: int
    repository: str
    id: str
    name: str
    created: datetime
    kdf: str
    memory_kib: int
    passes: int
    lanes: int
    salt: str
    nonce: str
    sealed: str = ""


def is_slot_key(key: str) -> bool:
    """Whether an object's key is that of a slot."""
    return SLOT_KEY.fullmatch(key) is not None


def create_slot(storage: Storage, repository_id: str, name: str, passphrase: Passphrase, master: MasterKey) -> KeySlot:
    """From when this returns the passphrase opens the repository."""
    cost, salt, nonce = USUAL_COST, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    payload = _Payload(
        version=SLOT_VERSION,
        repository=repository_id,
        id=secrets.token_hex(8),
        name=name,
        created=datetime.now(UTC),
        kdf=KDF,
        memory_kib=cost.memory_kib,
        passes=cost.passes,
        lanes=cost.lanes,
        salt=salt.hex(),
        nonce=nonce.hex(),
    )
    values = cast("dict[str, object]", msgspec.to_builtins(payload))
    sealed = AESGCM(_stretched(passphrase, cost, salt)).encrypt(nonce, master.value, _bound(values))
    key = PREFIX + payload.id
    content = json.dumps({**values, "sealed": sealed.hex()}, indent=2).encode()
    storage.create(key, encode_frame(key, FrameKind.KEY, content, codec=FrameCodec.STORED))
    return KeySlot(payload.id, name, payload.created)


def sealed_keys(storage: Storage, repository_id: str) -> tuple[tuple[SealedKey, ...], tuple[DamagedObject, ...]]:
    """The slots of a repository, oldest first, and those that cannot be read. Needs no passphrase."""
    found: list[SealedKey] = []
    damaged: list[DamagedObject] = []
    for entry in storage.list(PREFIX):
        try:
            sealed = _decode(entry.key, storage.read(entry.key), repository_id)
        except ObjectMissing:
            continue
        except Unsound as reason:
            damaged.append(DamagedObject(entry.key, str(reason)))
            continue
        if sealed is not None:
            found.append(sealed)
    return tuple(sorted(found, key=lambda each: (each.slot.created, each.slot.id))), tuple(damaged)


def damaged_slots(storage: Storage) -> tuple[DamagedObject, ...]:
    """Slots that cannot be read, of whatever repository."""
    return sealed_keys(storage, "")[1]


def slots_by_repository(storage: Storage) -> dict[str, list[datetime]]:
    """Ids of the repositories that sound slots bear, and when those were made, oldest first. Mostly it is one."""
    found: dict[str, list[datetime]] = {}
    for entry in storage.list(PREFIX):
        try:
            payload = decode_frame(entry.key, FrameKind.KEY, storage.read(entry.key))
            slot = msgspec.json.decode(payload, type=_Payload)
        except (Unsound, ObjectMissing, msgspec.DecodeError):
            continue
        found.setdefault(slot.repository, []).append(slot.created)
    return {repository: sorted(moments) for repository, moments in found.items()}


def opened(sealed: SealedKey, passphrase: Passphrase) -> MasterKey | None:
    """The master key, if this is the slot's passphrase."""
    try:
        key = _stretched(passphrase, sealed.cost, sealed.salt)
        return MasterKey(AESGCM(key).decrypt(sealed.nonce, sealed.sealed, sealed.bound))
    except (InvalidTag, ValueError):
        return None


def _decode(key: str, content: bytes, repository_id: str) -> SealedKey | None:
    """A slot; None for one of another repository."""
    payload = decode_frame(key, FrameKind.KEY, content)
    try:
        values = cast("dict[str, object]", json.loads(payload))
        slot = msgspec.convert(values, _Payload)
        salt, nonce, sealed = bytes.fromhex(slot.salt), bytes.fromhex(slot.nonce), bytes.fromhex(slot.sealed)
    except (ValueError, msgspec.ValidationError) as error:
        raise Unsound(f"it does not say what a key must: {error}") from error
    if slot.version > SLOT_VERSION or slot.kdf != KDF:
        raise Unsound(f"it has version {slot.version} and uses {slot.kdf}: made by a newer newhope")
    cost = Cost(slot.memory_kib, slot.passes, slot.lanes)
    if PREFIX + slot.id != key or not _bearable(cost):
        raise Unsound("what it says contradicts its place, or asks for more memory and time than any key does")
    if slot.repository != repository_id:
        return None
    return SealedKey(KeySlot(slot.id, slot.name, slot.created), cost, salt, nonce, sealed, _bound(values))


def _bearable(cost: Cost) -> bool:
    most = LARGEST_COST
    within = cost.memory_kib <= most.memory_kib and cost.passes <= most.passes and cost.lanes <= most.lanes
    return within and cost.passes >= 1 and cost.lanes >= 1 and cost.memory_kib >= 8 * cost.lanes


def _stretched(passphrase: Passphrase, cost: Cost, salt: bytes) -> bytes:
    argon2 = Argon2id(salt=salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib)
    try:
        with _stretching:
            return argon2.derive(passphrase.value)
    except MemoryError as error:
        raise RepositoryLocked(
            f"Trying a passphrase takes {cost.memory_kib // 1024} MiB of memory, and there is not that much.",
            next_step="Free some memory (free -h; ulimit -v), and run it again.",
        ) from error


def _bound(values: dict[str, object]) -> bytes:
    named = {name: value for name, value in values.items() if name != "sealed"}
    return json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
