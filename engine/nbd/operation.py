"""Requests: those that callers make, and the operations on the wire that they become."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from msgspec import Struct

from engine.nbd.errors import RequestFailed
from engine.nbd.extent import Extent
from engine.nbd.protocol import Command
from engine.nbd.wire import Bytes


class ReadRequest(Struct, frozen=True, eq=False):
    """Read as many bytes as the buffer is long. The buffer is the client's until the request is given back."""

    offset: int
    buffer: memoryview


class WriteRequest(Struct, frozen=True, eq=False):
    """Write the buffer. It must not change until the request is given back."""

    offset: int
    buffer: Bytes


Request = TypeVar("Request")


class Whole(Generic[Request]):
    """A caller's request, and how many of the operations that it was split into are still to come."""

    __slots__ = ("bounce", "parts", "request", "skipped")

    def __init__(self, request: Request, parts: int) -> None:
        self.request = request
        self.parts = parts
        self.bounce: memoryview | None = None
        """A wider, aligned buffer to read into when the server does not take the request's own range."""
        self.skipped = 0
        """Bytes of the bounce buffer before those that were asked for."""


class Operation(Generic[Request]):
    """One request on the wire, and what its reply has told so far."""

    __slots__ = (
        "command", "cookie", "failure", "flags", "lane", "length", "missing", "offset", "payload", "pieces",
        "statuses", "target", "whole",
    )  # fmt: skip

    def __init__(
        self,
        command: Command,
        offset: int,
        length: int,
        whole: Whole[Request],
        *,
        flags: int = 0,
        payload: Bytes | None = None,
        target: memoryview | None = None,
    ) -> None:
        self.command = command
        self.flags = flags
        self.offset = offset
        self.length = length
        self.whole = whole
        self.payload = payload
        self.target = target
        """Where a read's data goes. None once nobody wants it any more: then it is received and dropped."""
        self.lane: deque[Operation[Request]] | None = None
        """Where it is put when it is over; None when nobody waits for it."""
        self.cookie = 0
        self.missing = length if command is Command.READ else 0
        """Bytes that a read still lacks."""
        self.pieces: list[tuple[int, int]] = []
        """Begin and end of each piece that a read has got, to prove that none came twice."""
        self.statuses: dict[int, list[Extent]] = {}
        """Extents by context id."""
        self.failure: RequestFailed | None = None
