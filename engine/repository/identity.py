"""The file `newhope-repository`: what makes a folder a repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast

import msgspec
from blake3 import blake3
from msgspec import Struct

from engine.repository.errors import RepositoryDamaged, RepositoryMissing, RepositoryTooNew
from engine.repository.keys import ENCRYPTION, Keys

IDENTITY_KEY = "newhope-repository"
MAGIC = "newhope repository"
FORMAT_VERSION = 1
SMALLEST_BLOCK_BYTES = 4096
LARGEST_BLOCK_BYTES = 16 << 20
PLAIN = "none"


class Identity(Struct, frozen=True):
    """What is fixed for a repository's whole life."""

    magic: str
    format_version: int
    id: str
    block_bytes: int
    created: datetime
    hash: str = "blake3"
    encryption: str = PLAIN
    sealed_keys: tuple[str, ...] = ()
    proof: str = ""
    """Of an encrypted repository: what only somebody with its master key could write below all of the above."""

    @property
    def encrypted(self) -> bool:
        """Whether everything in it is sealed."""
        return self.encryption != PLAIN


def new_identity(repository_id: str, block_bytes: int) -> Identity:
    """The identity of a repository that begins now."""
    if block_bytes & (block_bytes - 1) or not SMALLEST_BLOCK_BYTES <= block_bytes <= LARGEST_BLOCK_BYTES:
        raise ValueError(f"block_bytes must be a power of two from 4 KiB to 16 MiB, not {block_bytes}")
    now = datetime.now(UTC).replace(microsecond=0)
    return Identity(MAGIC, FORMAT_VERSION, repository_id, block_bytes, now)


def proved(identity: Identity, keys: Keys) -> Identity:
    """The identity of a repository that is encrypted with these keys."""
    encrypted = msgspec.structs.replace(identity, encryption=ENCRYPTION)
    return msgspec.structs.replace(encrypted, proof=keys.proof(_statement(_values(encrypted))))


def proof_holds(content: bytes, keys: Keys) -> bool:
    """Whether a sound identity was written by somebody who had these keys."""
    values = cast("dict[str, object]", json.loads(content))
    proof = values.pop("proof", "")
    values.pop("checksum", None)
    return proof == keys.proof(_statement(values))


def encode_identity(identity: Identity) -> bytes:
    """JSON for people and programs, with a checksum of its values."""
    values = _values(identity)
    return (json.dumps({**values, "checksum": _checksum(values)}, indent=2) + "\n").encode()


def decode_identity(content: bytes, location: str) -> Identity:
    """Check and read an identity."""
    try:
        decoded: object = json.loads(content)
    except ValueError as error:
        raise _damaged(location, "it is not JSON") from error
    if not isinstance(decoded, dict):
        raise _damaged(location, "it is not a JSON object")
    values = cast("dict[str, object]", decoded)
    if values.get("magic") != MAGIC:
        raise RepositoryMissing(
            f"The file {IDENTITY_KEY} in {location} was not made by newhope.",
            next_step="Check the path of the repository in newhope.toml.",
        )
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise _too_new(location, f"format {version}; this newhope knows formats up to {FORMAT_VERSION}")
    if values.pop("checksum", None) != _checksum(values):
        raise _damaged(location, "its checksum does not match")
    try:
        identity = msgspec.convert(values, Identity)
    except msgspec.ValidationError as error:
        raise _damaged(location, str(error)) from error
    if identity.encryption not in (PLAIN, ENCRYPTION) or identity.hash != "blake3":
        raise _too_new(location, f"encryption {identity.encryption!r} and hash {identity.hash!r}")
    return identity


def _values(identity: Identity) -> dict[str, object]:
    values = cast("dict[str, object]", msgspec.to_builtins(identity))
    if not identity.proof:
        del values["proof"]
    return values


def _checksum(values: dict[str, object]) -> str:
    return blake3(_statement(values)).hexdigest()


def _statement(values: dict[str, object]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _damaged(location: str, why: str) -> RepositoryDamaged:
    return RepositoryDamaged(
        f"The identity file of the repository {location} is damaged: {why}.",
        next_step=f"Its points are not lost. See what can be put back, and how: newhope repo repair {location}.",
    )


def _too_new(location: str, why: str) -> RepositoryTooNew:
    return RepositoryTooNew(
        f"The repository {location} uses {why}.",
        next_step="Use the newhope that made it, or a newer one.",
    )
