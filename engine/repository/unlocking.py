"""Opening an encrypted repository, and the keys that people have to it.

Locks: who takes a key away holds a lease of kind `keys` and stops where another one holds one, so that two of them
never take the last two keys away together. Adding needs no lease.
"""

from __future__ import annotations

from engine.errors import Conflict, NotFound
from engine.repository.errors import RepositoryDamaged, RepositoryLocked
from engine.repository.identity import IDENTITY_KEY, Identity, decode_identity, proof_holds, proved
from engine.repository.key_slots import PREFIX, KeySlot, SealedKey, create_slot, opened, sealed_keys
from engine.repository.keys import Keys
from engine.repository.lease import HeldLease, leases
from engine.repository.master_key import MasterKey, Passphrase, Secret, Unlock
from engine.repository.model import DamagedObject
from engine.repository.storage import Storage

KEY_LEASE = "keys"
KEY_LEASE_S = 300.0
LONGEST_NAME = 64


def new_keys(storage: Storage, identity: Identity, name: str, passphrase: Passphrase) -> tuple[Identity, Keys]:
    """Make a master key and a slot for it; the identity to write now, and the keys."""
    _check_new(name, passphrase)
    master = MasterKey.new()
    keys = Keys(master, identity.id)
    create_slot(storage, identity.id, name, passphrase, master)
    return proved(identity, keys), keys


def read_identity(
    storage: Storage, name: str, unlock: Unlock | None, expect_encrypted: bool
) -> tuple[Identity, Keys | None]:
    """A repository's identity, with its keys if it is encrypted. Raises `ObjectMissing`, `RepositoryLocked`."""
    content = storage.read(IDENTITY_KEY)
    identity = decode_identity(content, storage.location)
    if not identity.encrypted:
        if expect_encrypted:
            raise RepositoryDamaged(
                f"The repository {name} at {storage.location} says that it is not encrypted, and it was expected "
                "to be: its identity was exchanged, or this is another repository.",
                untouched="Nothing was read from it and nothing was written to it.",
                next_step=f"Find out who changed {IDENTITY_KEY} there, and bring it back from a copy.",
            )
        return identity, None
    if unlock is None:
        raise RepositoryLocked(
            f"The repository {name} at {storage.location} is encrypted, and no passphrase was given.",
            next_step="Give its passphrase, or say where it is kept: passphrase_file or passphrase_command in "
            "newhope.toml.",
        )
    keys = Keys(master_of(storage, identity.id, name, unlock(identity.id, name)), identity.id)
    if not proof_holds(content, keys):
        raise RepositoryLocked(
            f"The key that was given does not belong to the repository {name} at {storage.location}, or its identity "
            "was changed by somebody who does not have the key.",
            untouched="Nothing was read from it and nothing was written to it.",
            next_step=f"Compare the id on the recovery sheet with {identity.id}, and {IDENTITY_KEY} with a copy.",
        )
    return identity, keys


def master_of(storage: Storage, repository_id: str, name: str, secret: Secret) -> MasterKey:
    """The master key that a secret opens, or is; raises `RepositoryLocked`."""
    if isinstance(secret, MasterKey):
        return secret
    sound, damaged = sealed_keys(storage, repository_id)
    for each in sound:
        master = opened(each, secret)
        if master is not None:
            return master
    names = ", ".join(each.slot.name for each in sound) or "none"
    hurt = f" Keys that cannot be read: {'; '.join(map(str, damaged))}." if damaged else ""
    raise RepositoryLocked(
        f"The passphrase that was given opens none of the keys of the repository {name} at {storage.location} "
        f"(there are: {names}).{hurt}",
        untouched="Nothing was read from it and nothing was written to it.",
        next_step="Give the passphrase of one of these keys, or the recovery sheet.",
    )


def key_slots(storage: Storage, identity: Identity) -> tuple[KeySlot, ...]:
    """The keys that people have to a repository, oldest first."""
    return tuple(each.slot for each in sealed_keys(storage, identity.id)[0])


def add_key(storage: Storage, identity: Identity, keys: Keys, name: str, passphrase: Passphrase) -> KeySlot:
    """Let one passphrase more open the repository."""
    _check_new(name, passphrase)
    if any(slot.name == name for slot in key_slots(storage, identity)):
        raise Conflict(
            f"The repository {storage.location} has a key {name} already.",
            next_step="Choose another name, or remove that key first: newhope repo key list.",
        )
    return create_slot(storage, identity.id, name, passphrase, keys.master)


def remove_key(storage: Storage, identity: Identity, keys: Keys, name_or_id: str) -> None:
    """Take a key away, never the last one that can be read."""
    lease = HeldLease(storage, KEY_LEASE, "newhope repo key remove", KEY_LEASE_S, keys)
    try:
        _pass_other_removals(storage, keys, lease.id)
        sound, damaged = sealed_keys(storage, identity.id)
        key = _chosen(storage, sound, damaged, name_or_id)
        if not [each for each in sound if PREFIX + each.slot.id != key]:
            raise Conflict(
                f"{name_or_id} is the last key of the repository {storage.location}: without it nobody could open it.",
                next_step="Add another key first: newhope repo key add.",
            )
        lease.check()
        storage.delete(key)
    finally:
        lease.release()


def _chosen(storage: Storage, sound: tuple[SealedKey, ...], damaged: tuple[DamagedObject, ...], name_or_id: str) -> str:
    slots = [each.slot for each in sound]
    found = {PREFIX + slot.id for slot in slots if name_or_id in (slot.id, slot.name)}
    found |= {each.key for each in damaged if each.key == PREFIX + name_or_id}
    if len(found) == 1:
        return found.pop()
    if found:
        raise Conflict(
            f"The repository {storage.location} has {len(found)} keys named {name_or_id}.",
            next_step="Give the id instead of the name: newhope repo key list.",
        )
    raise NotFound(
        f"The repository {storage.location} has no key {name_or_id}.",
        next_step=f"It has: {', '.join(f'{slot.name} ({slot.id})' for slot in slots)}.",
    )


def _pass_other_removals(storage: Storage, keys: Keys, mine: str) -> None:
    for lease in leases(storage, keys)[0]:
        if lease.kind == KEY_LEASE and lease.id != mine and not lease.dead():
            raise Conflict(
                f"{lease.owner} on {lease.host} (process {lease.pid}) removes a key of this repository right now.",
                next_step="Try again then. If it died on another machine: newhope repo prune ends its lease.",
            )


def _check_new(name: str, passphrase: Passphrase) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise Conflict(
            f"{name!r} is no name for a key: 1 to {LONGEST_NAME} signs that can be printed.",
            next_step="Give it the name of who has it, or of where it is kept.",
        )
    if not passphrase.value:
        raise RepositoryLocked(
            "The passphrase is empty.",
            next_step="Give one that nobody guesses: six random words, or 20 random letters and digits.",
        )
