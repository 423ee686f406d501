"""How newhope fails: every error says what happened, what is untouched, and what to do next.

An error is a class. Its exit code is part of the command line's contract, listed in the README and, for shells, by
`newhope --help`. Each package derives its own errors from `NewhopeError`; only defects have tracebacks.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the `newhope` command's exit status means. A code that is not listed here must be read as a failure."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    SETTINGS = 3
    HOST_UNREACHABLE = 4
    NOT_FOUND = 5
    REPOSITORY = 6
    CONFLICT = 7
    NO_SPACE = 8
    PREFLIGHT = 9
    GUEST = 10
    FAILED = 11
    MISSING_PACKAGE = 12
    FINDINGS = 13
    CANCELLED = 14
    LOST = 15
    INTERRUPTED = 130


class NewhopeError(Exception):
    """Something failed that an operator can do something about.

    Three sentences, each complete: `what` happened (with the names of the host, VM, file), what is `untouched`, and
    the `next_step` (a command, or a thing to look at). None of the three may hold a secret.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, what: str, *, next_step: str, untouched: str = "Nothing was changed.") -> None:
        super().__init__(what)
        self.what = what
        self.untouched = untouched
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what} {self.untouched} Next: {self.next_step}"


class Conflict(NewhopeError):
    """Something else is at work on the same thing; the error names its owner."""

    exit_code = ExitCode.CONFLICT


class NotFound(NewhopeError):
    """A host, VM, recovery point, repository or job of that name does not exist."""

    exit_code = ExitCode.NOT_FOUND


class NoSpace(NewhopeError):
    """A file system or pool is too full for what was asked."""

    exit_code = ExitCode.NO_SPACE


class MissingPackage(NewhopeError):
    """A program of the operating system that this needs is not installed; the next step names its package."""

    exit_code = ExitCode.MISSING_PACKAGE
