"""The secrets that open an encrypted repository. Neither shows itself when it is printed, logged or shown by a tool."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Self

from msgspec import Struct

from engine.repository.recovery_sheet import key_on_sheet

MASTER_KEY_BYTES = 32


class Passphrase(Struct, frozen=True):
    """What a person, a file or a program gives to open a repository."""

    value: bytes
    """Every byte counts; whoever reads it from a file takes the line's end away."""

    def __repr__(self) -> str:
        return "Passphrase(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class MasterKey(Struct, frozen=True):
    """The key that everything in one repository is sealed under: whoever has it needs no passphrase."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != MASTER_KEY_BYTES:
            raise ValueError(f"a master key has {MASTER_KEY_BYTES} bytes, not {len(self.value)}")

    def __repr__(self) -> str:
        return "MasterKey(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    @classmethod
    def new(cls) -> Self:
        """A random one."""
        return cls(secrets.token_bytes(MASTER_KEY_BYTES))

    @classmethod
    def from_sheet(cls, text: str) -> Self:
        """The key on a recovery sheet; raises `RepositoryLocked`, which says the line that was not copied right."""
        return cls(key_on_sheet(text))


Secret = Passphrase | MasterKey
Unlock = Callable[[str, str], Secret]
"""Asked for a secret, with the id of the repository and the name it goes by, once it is known to be encrypted."""
