"""How talking NBD fails, each failure as a class with its own exit code and its own next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.errors import ExitCode, NewhopeError


class NbdError(NewhopeError):
    """A disk could not be read, written or served over NBD."""


class ServerUnreachable(NbdError):
    """Nobody answered at the address when the connection was made."""


class ServerGone(NbdError):
    """The server ended, or the way to it broke, in the middle of the work."""


class ServerSilent(NbdError):
    """The server is connected and has not moved one byte within the time allowed."""


class ProtocolViolation(NbdError):
    """The server answered something that the protocol does not allow, so nothing that it says can be believed."""


class OptionRefused(NbdError):
    """The server refused, in the handshake, what was asked of it."""


class ExportUnknown(OptionRefused):
    """The server is there and has no export of that name."""

    exit_code: ClassVar[ExitCode] = ExitCode.NOT_FOUND

    def __init__(self, what: str, *, next_step: str, exports: Sequence[str] = ()) -> None:
        super().__init__(what, next_step=next_step)
        self.exports = tuple(exports)


class RequestFailed(NbdError):
    """The server answered one request with an error; the connection can still be used."""

    def __init__(
        self,
        what: str,
        *,
        next_step: str,
        untouched: str,
        errno_name: str,
        offset: int,
    ) -> None:
        super().__init__(what, next_step=next_step, untouched=untouched)
        self.errno_name = errno_name
        self.offset = offset


class ExportFull(RequestFailed):
    """What the export is kept on has no room for what was to be written."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


class NotServable(NbdError):
    """The server could not be started: its socket's path is taken, too long, or not writable."""
