"""The server's half of the transmission: the requests of one connection, several of them worked on side by side.

Locking, for the workers (threads) of one conversation:

1. A worker takes `_receiving`, receives one whole request (with its payload, for a write), and gives the lock back.
2. It does the request itself, holding nothing: meanwhile the next worker receives.
3. It takes `_sending` for one chunk, or one simple reply, at a time.

So no request is handed from thread to thread, no queue can grow, and a client that sends faster than it is served
waits in its own socket. Memory is bounded by one request a worker: 1 MiB for a read (sent in pieces; 32 MiB for one
that must not be fragmented), at most 32 MiB for a write.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from msgspec import Struct

from engine.errors import NewhopeError
from engine.nbd import protocol
from engine.nbd.export import is_writable
from engine.nbd.extent import cover
from engine.nbd.protocol import Chunk, Command, CommandFlag, WireError
from engine.nbd.welcome import BASE_ALLOCATION_ID, Chosen
from engine.nbd.wire import Bytes, Wire

_PIECE_BYTES = 1024 * 1024
_HOLES_FROM_BYTES = 64 * 1024
"""Reads from this size on are asked for holes first: for smaller ones looking costs more than sending."""
_MOST_EXTENTS = 32 * 1024
_MOST_MESSAGE_BYTES = 1024

# Plain numbers: what `~` makes of an IntFlag (all other bits, or all other known bits) differs between Pythons.
_ALLOWED_FLAGS = {
    Command.READ: int(CommandFlag.DF),
    Command.WRITE: int(CommandFlag.FUA),
    Command.FLUSH: 0,
    Command.TRIM: int(CommandFlag.FUA),
    Command.WRITE_ZEROES: int(CommandFlag.FUA | CommandFlag.NO_HOLE),
    Command.BLOCK_STATUS: int(CommandFlag.REQ_ONE),
}
_CHANGING = (Command.WRITE, Command.WRITE_ZEROES, Command.TRIM)
_WIRE_ERRORS = {
    errno.EPERM: WireError.EPERM,
    errno.EACCES: WireError.EPERM,
    errno.EROFS: WireError.EPERM,
    errno.ENOMEM: WireError.ENOMEM,
    errno.EINVAL: WireError.EINVAL,
    errno.ENOSPC: WireError.ENOSPC,
    errno.EDQUOT: WireError.ENOSPC,
    errno.EFBIG: WireError.ENOSPC,
}


class ServedFailure(Struct, frozen=True):
    """One request that an export could not do, and why."""

    export: str
    command: str
    offset: int
    length: int
    reason: str


class _Request(Struct, frozen=True, gc=False):
    command: Command
    flags: int
    cookie: int
    offset: int
    length: int
    payload: memoryview | None = None


class _Nonsense(Exception):  # an answer to the client, not an error of ours
    """The request itself is wrong; the export was not asked."""

    def __init__(self, error: WireError, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


class Conversation:
    """One client's requests on one export, until it leaves."""

    def __init__(self, wire: Wire, chosen: Chosen, workers: int, note_failure: Callable[[ServedFailure], None]) -> None:
        self._wire = wire
        self._chosen = chosen
        self._export = chosen.export
        self._size_bytes = chosen.export.size_bytes
        self._workers = workers
        self._note_failure = note_failure
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._over = False

    def run(self) -> None:
        """Serve until the client leaves or the connection breaks."""
        name = threading.current_thread().name
        others: list[threading.Thread] = []
        with suppress(RuntimeError):  # When the system gives no more threads, fewer do.
            for number in range(1, self._workers):
                worker = threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
                worker.start()
                others.append(worker)
        self._work()
        for worker in others:
            worker.join()

    def _work(self) -> None:
        try:
            while True:
                with self._receiving:
                    request = None if self._over else self._receive()
                    if request is None:
                        self._over = True
                        return
                if isinstance(request, _Request):
                    self._do(request)
        except OSError:
            self._break_off()  # The client is gone, or close() hung up.
        except BaseException:
            self._break_off()  # A defect: its request will never be answered, and the client must not wait.
            raise

    def _break_off(self) -> None:
        self._over = True
        self._wire.hang_up()

    def _receive(self) -> _Request | bool | None:
        """The next request; True if it was answered already; None if the client has left or cannot be followed."""
        magic, flags, kind, cookie, offset, length = self._wire.unpack(protocol.REQUEST)
        if magic != protocol.REQUEST_MAGIC or kind == Command.DISCONNECT:
            return None
        if kind == Command.WRITE:
            if length > protocol.MAXIMUM_PAYLOAD_BYTES:
                return None  # Its payload would have to be swallowed to find the next request.
            payload = memoryview(self._wire.receive(length))
            return _Request(Command.WRITE, flags, cookie, offset, length, payload)
        try:
            return _Request(Command(kind), flags, cookie, offset, length)
        except ValueError:
            self._send_error(cookie, WireError.EINVAL, f"there is no command {kind}", None)
            return True

    def _do(self, request: _Request) -> None:
        try:
            self._check(request)
            if request.command is Command.READ:
                self._read(request)
            elif request.command is Command.BLOCK_STATUS:
                self._tell_status(request)
            elif self._change(request):
                self._send_done(request.cookie)
        except _Nonsense as nonsense:
            self._send_error(request.cookie, nonsense.error, nonsense.message, None)

    def _check(self, request: _Request) -> None:
        if request.flags & ~_ALLOWED_FLAGS[request.command]:
            raise _Nonsense(WireError.EINVAL, "that command does not take these flags")
        if request.command in _CHANGING and self._export.read_only:
            raise _Nonsense(WireError.EPERM, "the export is read-only")
        if request.command is Command.FLUSH:
            return
        if request.offset + request.length > self._size_bytes:
            full = request.command in (Command.WRITE, Command.WRITE_ZEROES)
            error = WireError.ENOSPC if full else WireError.EINVAL
            raise _Nonsense(error, f"the export has {self._size_bytes} bytes")
        if request.command is Command.READ and request.length > protocol.MAXIMUM_PAYLOAD_BYTES:
            raise _Nonsense(WireError.EINVAL, f"one read may ask for {protocol.MAXIMUM_PAYLOAD_BYTES} bytes")
        if request.command is Command.BLOCK_STATUS and not (self._chosen.allocation and request.length):
            raise _Nonsense(WireError.EINVAL, "no context was selected, or no bytes were asked for")

    # Reads

    def _read(self, request: _Request) -> None:
        if not request.length:
            self._send_done(request.cookie)
        elif not self._chosen.structured:
            content = self._ask(request, request.offset, request.length)
            if content is not None:
                self._send(protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, 0, request.cookie), content)
        elif request.flags & CommandFlag.DF:
            self._send_data(request, request.offset, request.length)
        else:
            self._read_in_chunks(request)

    def _read_in_chunks(self, request: _Request) -> None:
        end = request.offset + request.length
        for begin, stop, zero in self._runs(request):
            if zero:
                done = protocol.CHUNK_DONE if stop == end else 0
                hole = protocol.HOLE.pack(begin, stop - begin)
                self._send_chunk(request.cookie, Chunk.OFFSET_HOLE, done, hole)
                continue
            for offset in range(begin, stop, _PIECE_BYTES):
                if not self._send_data(request, offset, min(_PIECE_BYTES, stop - offset)):
                    return

    def _runs(self, request: _Request) -> list[tuple[int, int, bool]]:
        """Begin, end and zeroness of what a read consists of."""
        end = request.offset + request.length
        if request.length >= _HOLES_FROM_BYTES:
            try:
                extents = self._export.extents(request.offset, request.length)
                covered = list(islice(cover(extents, request.offset, request.length), _MOST_EXTENTS))
            except Exception:  # whatever an export raises
                covered = []  # Its bytes can be read without the map; if not, reading says why.
            if covered and covered[-1].end == end:
                return [(extent.offset, extent.end, extent.is_zero) for extent in covered]
        return [(request.offset, end, False)]

    def _send_data(self, request: _Request, offset: int, length: int) -> bool:
        content = self._ask(request, offset, length)
        if content is None:
            return False
        done = protocol.CHUNK_DONE if offset + length == request.offset + request.length else 0
        self._send_chunk(request.cookie, Chunk.OFFSET_DATA, done, protocol.OFFSET.pack(offset), content)
        return True

    def _ask(self, request: _Request, offset: int, length: int) -> Bytes | None:
        """What the export has there; None if it failed and the client was told so."""
        try:
            content = self._export.read(offset, length)
            if len(content) != length:
                raise ValueError(f"{len(content)} bytes were read where {length} were asked for")
        except Exception as failure:  # whatever an export raises is this request's failure
            self._report(request, failure, offset)
            return None
        return content

    # Everything else

    def _tell_status(self, request: _Request) -> None:
        most = 1 if request.flags & CommandFlag.REQ_ONE else _MOST_EXTENTS
        try:
            extents = self._export.extents(request.offset, request.length)
            told = list(islice(cover(extents, request.offset, request.length), most))
        except Exception as failure:  # whatever an export raises is this request's failure
            self._report(request, failure, request.offset)
            return
        descriptors = b"".join(protocol.DESCRIPTOR.pack(extent.length, extent.flags) for extent in told)
        content = protocol.WORD.pack(BASE_ALLOCATION_ID) + descriptors
        self._send_chunk(request.cookie, Chunk.BLOCK_STATUS, protocol.CHUNK_DONE, content)

    def _change(self, request: _Request) -> bool:
        """Write, zero, trim or flush; False if it failed and the client was told so."""
        export = self._export
        if not is_writable(export):
            return True  # Only a flush gets this far: there is nothing to make durable.
        try:
            if request.payload is not None:
                export.write(request.offset, request.payload)
            elif request.command is Command.WRITE_ZEROES:
                may_trim = not request.flags & CommandFlag.NO_HOLE
                export.write_zeroes(request.offset, request.length, may_trim)
            elif request.command is Command.TRIM:
                export.trim(request.offset, request.length)
            if request.command is Command.FLUSH or request.flags & CommandFlag.FUA:
                export.flush()
        except Exception as failure:  # whatever an export raises is this request's failure
            self._report(request, failure, request.offset)
            return False
        return True

    # Answers

    def _send_done(self, cookie: int) -> None:
        if self._chosen.structured:
            self._send_chunk(cookie, Chunk.NONE, protocol.CHUNK_DONE)
        else:
            self._send(protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, 0, cookie))

    def _report(self, request: _Request, failure: Exception, offset: int) -> None:
        error = WireError.EIO
        if isinstance(failure, OSError):
            error = _WIRE_ERRORS.get(failure.errno or 0, WireError.EIO)
        reason = failure.what if isinstance(failure, NewhopeError) else str(failure) or type(failure).__name__
        self._note_failure(
            ServedFailure(self._chosen.name, request.command.name.lower(), request.offset, request.length, reason)
        )
        self._send_error(request.cookie, error, reason, offset)

    def _send_error(self, cookie: int, error: WireError, message: str, offset: int | None) -> None:
        if not self._chosen.structured:
            self._send(protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, error, cookie))
            return
        text = message.encode(errors="replace")[:_MOST_MESSAGE_BYTES]
        content = protocol.ERROR.pack(error, len(text)) + text
        if offset is None:
            self._send_chunk(cookie, Chunk.ERROR, protocol.CHUNK_DONE, content)
        else:
            content += protocol.OFFSET.pack(offset)
            self._send_chunk(cookie, Chunk.ERROR_OFFSET, protocol.CHUNK_DONE, content)

    def _send_chunk(self, cookie: int, kind: Chunk, flags: int, head: bytes = b"", body: Bytes = b"") -> None:
        header = protocol.STRUCTURED_REPLY.pack(
            protocol.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(head) + len(body)
        )
        self._send(header + head, body)

    def _send(self, *buffers: Bytes) -> None:
        with self._sending:
            self._wire.send(*buffers)
