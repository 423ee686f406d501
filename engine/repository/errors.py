"""How a repository fails."""

from __future__ import annotations

from engine.errors import ExitCode, NewhopeError


class RepositoryError(NewhopeError):
    """A repository cannot do what was asked."""

    exit_code = ExitCode.REPOSITORY


class RepositoryMissing(RepositoryError):
    """There is no repository at that place."""


class RepositoryDamaged(RepositoryError):
    """Something stored is not what was written, or is gone; the error names the object."""


class RepositoryTooNew(RepositoryError):
    """The repository was made by a newer newhope and uses what this one does not know."""


class RepositoryLocked(RepositoryError):
    """The repository is encrypted, and no key was given that opens it."""


class StorageFailed(RepositoryError):
    """The storage below a repository refused to read or write."""


class ObjectMissing(RepositoryError):
    """An object that something refers to is not in the storage."""

    def __init__(self, key: str, location: str) -> None:
        super().__init__(
            f"{key} is not in the repository {location}.",
            next_step=f"Look at {location}: was something deleted, or is its file system not mounted?",
        )
        self.key = key


class ObjectExists(RepositoryError):
    """An object of that name is there already, and objects are never overwritten."""

    def __init__(self, key: str, location: str) -> None:
        super().__init__(
            f"{key} is in the repository {location} already.",
            untouched="It was left as it is.",
            next_step="Choose another name; objects of a repository are never overwritten.",
        )
        self.key = key


class LeaseLost(RepositoryError):
    """A writer's lease ran out or was broken, so it may no longer commit."""


class Unsound(ValueError):
    """Bytes that fail a check. Never leaves this package: its catcher knows which object it was and says so."""
