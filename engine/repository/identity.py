"""The file `newhope-repository`: what makes a folder a repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast

import msgspec
from blake3 import blake3
from msgspec import Struct

from engine.repository.errors import RepositoryDamaged, RepositoryMissing, RepositoryTooNew

IDENTITY_KEY = "newhope-repository"
MAGIC = "newhope repository"
FORMAT_VERSION = 1
SMALLEST_BLOCK_BYTES = 4096
LARGEST_BLOCK_BYTES = 16 << 20


class Identity(Struct, frozen=True):
    """What is fixed for a repository's whole life."""

    magic: str
    format_version: int
    id: str
    block_bytes: int
    created: datetime
    hash: str = "blake3"
    encryption: str = "none"
    sealed_keys: tuple[str, ...] = ()


def new_identity(repository_id: str, block_bytes: int) -> Identity:
    """The identity of a repository that begins now."""
    if block_bytes & (block_bytes - 1) or not SMALLEST_BLOCK_BYTES <= block_bytes <= LARGEST_BLOCK_BYTES:
        raise ValueError(f"block_bytes must be a power of two from 4 KiB to 16 MiB, not {block_bytes}")
    now = datetime.now(UTC).replace(microsecond=0)
    return Identity(MAGIC, FORMAT_VERSION, repository_id, block_bytes, now)


def encode_identity(identity: Identity) -> bytes:
    """JSON for people and programs, with a checksum of its values."""
    values = cast("dict[str, object]", msgspec.to_builtins(identity))
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
    if identity.encryption != "none" or identity.hash != "blake3":
        raise _too_new(location, f"encryption {identity.encryption!r} and hash {identity.hash!r}")
    return identity


def _checksum(values: dict[str, object]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake3(text.encode()).hexdigest()


def _damaged(location: str, why: str) -> RepositoryDamaged:
    return RepositoryDamaged(
        f"The identity file of the repository {location} is damaged: {why}.",
        next_step=f"Bring {IDENTITY_KEY} back from a copy of the repository; its points are not lost.",
    )


def _too_new(location: str, why: str) -> RepositoryTooNew:
    return RepositoryTooNew(
        f"The repository {location} uses {why}.",
        next_step="Use the newhope that made it, or a newer one.",
    )
