"""The client: one connection to one export, for one thread at a time."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self

from engine.nbd import protocol
from engine.nbd.address import Address, open_socket
from engine.nbd.errors import NbdError, ServerGone, ServerSilent
from engine.nbd.extent import Extent, clip, merge
from engine.nbd.negotiation import ExportListing, Negotiation, Opened
from engine.nbd.operation import Operation, ReadRequest, Request, Whole, WriteRequest
from engine.nbd.protocol import Command, CommandFlag, ExportFlag
from engine.nbd.transmission import Transmission
from engine.nbd.wire import Bytes, Wire

STATUS_STEP_BYTES = 2 * 1024**3
"""Asked in one question for block status: bounds the memory of the answer, and the wait for it."""
ZEROES_STEP_BYTES = 256 * 1024**2
"""Zeroed or trimmed by one request: a slow server must answer each within the timeout."""
_ZEROES = memoryview(bytes(1024**2))


class Client:
    """An open export. A context manager; leaving it takes leave of the server.

    Every method may raise `RequestFailed`, after which the client can be used on, and `ServerGone`, `ServerSilent`
    or `ProtocolViolation`, after which it cannot. Ranges outside the export are a `ValueError`.
    """

    def __init__(self, transmission: Transmission, opened: Opened) -> None:
        self._transmission = transmission
        self._opened = opened
        self.size_bytes = opened.size_bytes
        self.contexts = tuple(opened.contexts.values())
        """The contexts that block status is told in: those asked for that the server has."""
        self.minimum_block_bytes = opened.minimum_block_bytes
        """Offsets and lengths of writes must be multiples of it; reads and extents may have any."""
        self.preferred_block_bytes = opened.preferred_block_bytes
        self.maximum_block_bytes = opened.maximum_block_bytes
        """Longer reads and writes are split by the client."""
        longest = min(opened.maximum_block_bytes, protocol.MAXIMUM_PAYLOAD_BYTES)
        self._longest = longest - longest % opened.minimum_block_bytes

    @classmethod
    def connect(
        cls, address: Address, export: str = "", *, contexts: Sequence[str] = (), timeout_s: float = 30.0
    ) -> Self:
        """Connect and open an export. `timeout_s` bounds every wait in which the server moves nothing at all.

        Raises `ServerUnreachable`, `ExportUnknown`, `OptionRefused`, or one of the errors of an open connection.
        """
        connected = open_socket(address, timeout_s)
        return cls.adopt(connected, export, contexts=contexts, timeout_s=timeout_s, server=str(address))

    @classmethod
    def adopt(
        cls,
        connected: socket.socket,
        export: str = "",
        *,
        contexts: Sequence[str] = (),
        timeout_s: float = 30.0,
        server: str = "the other end of a socket",
    ) -> Self:
        """Open an export over a socket that is connected already. The client owns the socket from here on."""
        wire = Wire(connected, timeout_s)
        try:
            opened = Negotiation(wire, server).open(export, contexts)
        except OSError as failure:
            wire.close()
            raise _handshake_lost(server, failure) from failure
        except BaseException:
            wire.close()
            raise
        return cls(Transmission(wire, opened, server, export), opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take leave of the server and close the connection; twice does no harm. Flush first what must last."""
        self._transmission.close()

    @property
    def read_only(self) -> bool:
        """Whether the server refuses every write."""
        return ExportFlag.READ_ONLY in self._opened.flags

    @property
    def can_multi_conn(self) -> bool:
        """Whether several connections to the export see each other's flushed writes."""
        return ExportFlag.CAN_MULTI_CONN in self._opened.flags

    @property
    def can_flush(self) -> bool:
        """Whether the server can make writes durable."""
        return ExportFlag.SEND_FLUSH in self._opened.flags

    @property
    def can_trim(self) -> bool:
        """Whether the server takes hints on what is not needed any more."""
        return ExportFlag.SEND_TRIM in self._opened.flags

    @property
    def can_write_zeroes(self) -> bool:
        """Whether zeroes can be written without sending them."""
        return ExportFlag.SEND_WRITE_ZEROES in self._opened.flags

    # Reading

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from the export, whatever its length."""
        if len(buffer):
            for _ in self.read_many((ReadRequest(offset, buffer),)):
                pass

    def read_many(self, requests: Iterable[ReadRequest], in_flight: int = 16) -> Iterator[ReadRequest]:
        """Read many ranges with up to `in_flight` requests under way; gives each back when its buffer is filled.

        They come back in the server's order, not in yours. `requests` is asked for its next one as soon as there is
        room for it, so a pool that they take buffers from must have at least `in_flight` of them; it may use this
        client as it goes, to ask for extents for instance. Leaving the loop early is allowed: from then on no buffer
        is touched. A failed request raises, and ends the loop.
        """
        for operation in self._stream(self._reads(requests), in_flight):
            whole = operation.whole
            whole.parts -= 1
            if not whole.parts:
                if whole.bounce is not None:
                    size = len(whole.request.buffer)
                    whole.request.buffer.cast("B")[:] = whole.bounce[whole.skipped : whole.skipped + size]
                yield whole.request

    def _reads(self, requests: Iterable[ReadRequest]) -> Iterator[Operation[ReadRequest]]:
        minimum, longest = self.minimum_block_bytes, self._longest
        for request in requests:
            target = request.buffer.cast("B")
            offset, length = request.offset, len(target)
            self._check_range(offset, length)
            if target.readonly:
                raise ValueError("a read needs a buffer that can be written")
            whole = Whole(request, parts=1)
            if minimum > 1 and (offset % minimum or length % minimum):
                whole.skipped = offset % minimum
                offset -= whole.skipped
                length = _round_up(whole.skipped + length, minimum)
                whole.bounce = target = memoryview(bytearray(length))
            if length <= longest:
                yield Operation(Command.READ, offset, length, whole, target=target)
                continue
            whole.parts = -(-length // longest)
            for begin in range(0, length, longest):
                piece = target[begin : begin + longest]
                yield Operation(Command.READ, offset + begin, len(piece), whole, target=piece)

    def _stream(self, operations: Iterator[Operation[Request]], in_flight: int) -> Iterator[Operation[Request]]:
        """Keep `in_flight` operations under way until all are over; gives each as it ends."""
        if in_flight < 1:
            raise ValueError("at least one request must be in flight")
        lane: deque[Operation[Request]] = deque()
        # New requests go out a few at a time: one system call, and one switch between threads, for all of them.
        burst = max(1, in_flight // 4)
        flying = 0
        exhausted = False
        try:
            while True:
                if not exhausted and in_flight - flying >= burst:
                    batch = list(islice(operations, in_flight - flying))
                    exhausted = len(batch) < in_flight - flying
                    flying += len(batch)
                    if batch:
                        self._transmission.send(batch, lane)
                if not flying:
                    return
                while not lane:
                    self._transmission.receive()
                operation = lane.popleft()
                flying -= 1
                if operation.failure is not None:
                    raise operation.failure
                yield operation
        finally:
            if flying:
                self._transmission.abandon(lane)

    # Writing

    def write(self, offset: int, buffer: Bytes) -> None:
        """Write the buffer, whatever its length. It is durable only after `flush()`."""
        if len(buffer):
            for _ in self.write_many((WriteRequest(offset, buffer),)):
                pass

    def write_many(self, requests: Iterable[WriteRequest], in_flight: int = 16) -> Iterator[WriteRequest]:
        """Write many ranges with up to `in_flight` requests under way; gives each back when it is written.

        Order and buffers are as with `read_many`. Ranges that overlap while in flight may be written in any order.
        """
        for operation in self._stream(self._writes(requests), in_flight):
            whole = operation.whole
            whole.parts -= 1
            if not whole.parts:
                yield whole.request

    def _writes(self, requests: Iterable[WriteRequest]) -> Iterator[Operation[WriteRequest]]:
        self._check_writable()
        for request in requests:
            content = memoryview(request.buffer).cast("B")
            length = len(content)
            self._check_range(request.offset, length)
            self._check_aligned(request.offset, length)
            whole = Whole(request, parts=-(-length // self._longest))
            for begin in range(0, length, self._longest):
                piece = content[begin : begin + self._longest]
                yield Operation(Command.WRITE, request.offset + begin, len(piece), whole, payload=piece)

    def write_zeroes(self, offset: int, length: int, *, may_trim: bool) -> None:
        """Make a range read as zeroes. With `may_trim` the server may free its storage; without, it may not.

        A server that cannot do this by itself gets the zeroes sent.
        """
        self._check_writable()
        if self.can_write_zeroes:
            flags = 0 if may_trim else int(CommandFlag.NO_HOLE)
            self._change(Command.WRITE_ZEROES, offset, length, flags)
            return
        pieces = range(offset, offset + length, len(_ZEROES))
        requests = (WriteRequest(at, _ZEROES[: min(len(_ZEROES), offset + length - at)]) for at in pieces)
        for _ in self.write_many(requests, in_flight=4):
            pass

    def trim(self, offset: int, length: int) -> None:
        """Hint that a range's content is not needed any more. A server that cannot trim is not asked."""
        self._check_writable()
        if self.can_trim:
            self._change(Command.TRIM, offset, length)

    def flush(self) -> None:
        """Make durable what was written before, by this client. Raises `NbdError` if the server cannot promise it."""
        if not self.can_flush:
            raise NbdError(
                "The NBD server does not offer to flush: whether what was written lasts cannot be known.",
                untouched="What was written is written.",
                next_step="serve the export with a server that can flush, such as qemu-nbd.",
            )
        self._run(Operation(Command.FLUSH, 0, 0, Whole(None, 1)))

    def _change(self, command: Command, offset: int, length: int, flags: int = 0) -> None:
        if not length:
            return
        self._check_range(offset, length)
        self._check_aligned(offset, length)
        end = offset + length
        step = max(ZEROES_STEP_BYTES, self.minimum_block_bytes)
        operations = (
            Operation(command, at, min(step, end - at), Whole(None, 1), flags=flags) for at in range(offset, end, step)
        )
        for _ in self._stream(operations, in_flight=4):
            pass

    def _run(self, operation: Operation[None]) -> None:
        for _ in self._stream(iter((operation,)), in_flight=1):
            pass

    # Asking

    def extents(self, context: str, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """What one context says of a range (without one: of the whole export), without gaps, neighbours merged.

        Asked piece by piece as it is iterated, so it costs the same memory for any size. Raises `NbdError` if the
        context was not negotiated.
        """
        end = self.size_bytes if length is None else offset + length
        if context not in self.contexts:
            known = ", ".join(self.contexts) or "none"
            raise NbdError(
                f"The NBD server does not tell the context {context!r} of this export; it tells {known}.",
                next_step="ask for it when connecting, and check that the bitmap exists where the export is served.",
            )
        if end == offset:
            return iter(())
        self._check_range(offset, end - offset)
        return merge(clip(self._walk(context, offset, end), offset, end - offset))

    def _walk(self, context: str, offset: int, end: int) -> Iterator[Extent]:
        minimum = self.minimum_block_bytes
        position = offset - offset % minimum
        end = min(_round_up(end, minimum), self.size_bytes)
        while position < end:
            told = self._status(position, min(end - position, STATUS_STEP_BYTES))[context]
            yield from told
            position = told[-1].end

    def block_status(self, offset: int, length: int) -> dict[str, tuple[Extent, ...]]:
        """One question and its answer in every negotiated context, merged and clipped to the range.

        An answer may end early, and each context's elsewhere: ask again from where it ended. Lengths above 2 GiB
        are cut to that. Offset and length must be multiples of the minimum block size.
        """
        self._check_range(offset, length)
        told = self._status(offset, min(length, STATUS_STEP_BYTES))
        return {name: tuple(merge(clip(extents, offset, length))) for name, extents in told.items()}

    def _status(self, offset: int, length: int) -> dict[str, list[Extent]]:
        operation = Operation(Command.BLOCK_STATUS, offset, length, Whole(None, 1))
        self._run(operation)
        names = self._opened.contexts
        return {names[context]: extents for context, extents in operation.statuses.items()}

    # Checks

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 1 or offset + length > self.size_bytes:
            raise ValueError(f"{length} bytes at {offset} are not within the export's {self.size_bytes}")

    def _check_aligned(self, offset: int, length: int) -> None:
        if offset % self.minimum_block_bytes or length % self.minimum_block_bytes:
            raise ValueError(f"{length} bytes at {offset} are not whole blocks of {self.minimum_block_bytes}")

    def _check_writable(self) -> None:
        if self.read_only:
            raise NbdError(
                "The NBD export is served read-only and cannot be written.",
                next_step="serve it writable, if it is meant to be written.",
            )


def list_exports(address: Address, *, timeout_s: float = 30.0) -> tuple[ExportListing, ...]:
    """What a server offers. Raises `OptionRefused` if it does not tell."""
    wire = Wire(open_socket(address, timeout_s), timeout_s)
    try:
        negotiation = Negotiation(wire, str(address))
        exports = negotiation.exports()
        negotiation.abort()
    except OSError as failure:
        raise _handshake_lost(str(address), failure) from failure
    finally:
        wire.close()
    return exports


def list_contexts(
    address: Address, export: str = "", *, queries: Sequence[str] = (), timeout_s: float = 30.0
) -> tuple[str, ...]:
    """Names of the contexts an export has: all, or those that match the queries (`qemu:dirty-bitmap:`)."""
    wire = Wire(open_socket(address, timeout_s), timeout_s)
    try:
        negotiation = Negotiation(wire, str(address))
        contexts = negotiation.available_contexts(export, queries)
        negotiation.abort()
    except OSError as failure:
        raise _handshake_lost(str(address), failure) from failure
    finally:
        wire.close()
    return contexts


def _handshake_lost(server: str, failure: OSError) -> NbdError:
    reason = failure.strerror or str(failure)
    kind = ServerSilent if isinstance(failure, TimeoutError) else ServerGone
    return kind(
        f"The NBD server at {server} did not finish the handshake: {reason}.",
        next_step=f"check that what listens at {server} is an NBD server, and that it is not stopped.",
    )


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
