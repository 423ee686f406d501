"""The client's half of the transmission: requests out, replies in, neither ever waiting for the other.

How a server may answer, for a read of the range from A to B (`=` header, `#` data, `0` zeroes not sent):

    simple reply, only where structured replies were not agreed on:
        =####################     the whole range follows its header
        =                         an error: nothing follows

    structured reply: chunks, in any order, each with its own header and offset; the last one is marked DONE
        =####################     DATA        the whole range in one chunk, or
        =#####  =#######  =##     DATA        pieces, of which none may overlap and none may be missing
        =0                        HOLE        offset and length: the range is zero, nothing follows
        =                         NONE        only carries DONE
        =                         ERROR       errno and message; ERROR_OFFSET: where, too. The other chunks of this
                                              reply still come, and the read has failed whatever they hold

and a question for the status of A to B, one chunk for each context, in any order, with descriptors (length, flags):

    A                   B
    |--0--|---3---|--0--|         exactly what was asked
    |--0--|---3---|               short: the rest must be asked again
    |--0--|                       very short, but never nothing
    |--0--|---3---|--0-------|    long: the last descriptor may reach past B
    |--0--|--0--|---3---|-3-|     not merged: neighbours may have the same flags
    |--0--|---3---|--0--|--3--|   too much: descriptors that begin behind B answer nothing and are dropped

Replies to different requests come in any order, and the chunks of one reply between those of another one.

Why nothing gets stuck: a server may stop receiving until its replies are taken. So a request is only sent as far as
the kernel's buffer has room; when it is full, replies are received until there is room again. Only the first bytes of
a reply are waited for that way: a server that has begun a chunk finishes it without needing anything from us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from engine.nbd import protocol
from engine.nbd.errors import (
    ExportFull,
    NbdError,
    ProtocolViolation,
    RequestFailed,
    ServerGone,
    ServerSilent,
)
from engine.nbd.extent import Extent
from engine.nbd.negotiation import Opened
from engine.nbd.operation import Operation, Request
from engine.nbd.protocol import Chunk, Command, WireError
from engine.nbd.wire import Bytes, Wire, behind

_ZEROES = memoryview(bytes(1024 * 1024))
_MOST_MESSAGE_BYTES = 64 * 1024
_MOST_STATUS_BYTES = 32 * 1024 * 1024
_CHANGING = (Command.WRITE, Command.WRITE_ZEROES, Command.TRIM)


class Transmission:
    """An opened export's connection: what is in flight on it, and its end. One thread at a time."""

    def __init__(self, wire: Wire, opened: Opened, server: str, export: str) -> None:
        self._wire = wire
        self._opened = opened
        self._server = server
        self._export = export
        self._cookie = 0
        self._pending: dict[int, Operation[object]] = {}
        self._changed = False
        self._ended: str | None = None

    # Out

    def send(self, operations: Sequence[Operation[Request]], lane: deque[Operation[Request]]) -> None:
        """Send requests; each is put into `lane` when it is over, in the order in which they end."""
        self._check_alive()
        buffers: list[Bytes] = []
        for operation in operations:
            self._cookie += 1
            operation.cookie = self._cookie
            operation.lane = lane
            self._pending[self._cookie] = operation  # pyright: ignore[reportArgumentType]
            buffers.append(
                protocol.REQUEST.pack(
                    protocol.REQUEST_MAGIC,
                    operation.flags,
                    operation.command,
                    operation.cookie,
                    operation.offset,
                    operation.length,
                )
            )
            if operation.payload is not None:
                buffers.append(operation.payload)
            if operation.command in _CHANGING:
                self._changed = True
        try:
            self._push(buffers)
        except (OSError, ProtocolViolation) as failure:
            raise self._lose(failure) from failure
        except BaseException:
            self._break_off()
            raise

    def _push(self, buffers: Sequence[Bytes]) -> None:
        while buffers:
            sent = self._wire.send_some(buffers)
            if sent:
                buffers = behind(buffers, sent)
            elif self._wire.wait():
                self._receive_reply()

    # In

    def receive(self) -> None:
        """Receive one simple reply or one chunk; what it completes is put into its lane."""
        self._check_alive()
        try:
            self._receive_reply()
        except (OSError, ProtocolViolation) as failure:
            raise self._lose(failure) from failure
        except BaseException:
            self._break_off()
            raise

    def _receive_reply(self) -> None:
        magic = self._wire.peek(protocol.WORD)[0]
        if magic == protocol.STRUCTURED_REPLY_MAGIC and self._opened.structured:
            self._receive_chunk()
        elif magic == protocol.SIMPLE_REPLY_MAGIC:
            self._receive_simple()
        else:
            raise self._violation(f"a reply began with 0x{magic:08x}")

    def _receive_chunk(self) -> None:
        _, flags, kind, cookie, length = self._wire.unpack(protocol.STRUCTURED_REPLY)
        operation = self._find(cookie)
        if kind == Chunk.OFFSET_DATA:
            self._take_data(operation, length)
        elif kind == Chunk.OFFSET_HOLE:
            self._take_hole(operation, length)
        elif kind == Chunk.BLOCK_STATUS:
            self._take_statuses(operation, length)
        elif kind & protocol.CHUNK_ERROR:
            self._take_error(operation, kind, length)
        elif kind != Chunk.NONE or length:
            raise self._violation(f"a chunk of type {kind} with {length} bytes")
        if flags & protocol.CHUNK_DONE:
            self._finish(operation)
        elif kind == Chunk.NONE:
            raise self._violation("an empty chunk that is not the last of its reply")

    def _receive_simple(self) -> None:
        _, error, cookie = self._wire.unpack(protocol.SIMPLE_REPLY)
        operation = self._find(cookie)
        if error:
            operation.failure = self._failed(operation, error, "", operation.offset)
        elif operation.command is Command.BLOCK_STATUS:
            raise self._violation("a simple reply to a question for block status")
        elif operation.command is Command.READ:
            if self._opened.structured:
                raise self._violation("a simple reply to a read after structured ones were agreed on")
            self._receive_range(operation, operation.offset, operation.length)
        self._finish(operation)

    def _take_data(self, operation: Operation[object], length: int) -> None:
        size = length - protocol.OFFSET.size
        if size < 1:
            raise self._violation("a data chunk without data")
        self._receive_range(operation, self._wire.unpack(protocol.OFFSET)[0], size)

    def _take_hole(self, operation: Operation[object], length: int) -> None:
        if length != protocol.HOLE.size:
            raise self._violation(f"a hole chunk of {length} bytes")
        offset, size = self._wire.unpack(protocol.HOLE)
        self._claim(operation, offset, size)
        if operation.target is not None:
            begin = offset - operation.offset
            _fill_with_zeroes(operation.target[begin : begin + size])

    def _receive_range(self, operation: Operation[object], offset: int, size: int) -> None:
        self._claim(operation, offset, size)
        if operation.target is None:
            self._wire.skip(size)
        else:
            begin = offset - operation.offset
            self._wire.receive_into(operation.target[begin : begin + size])

    def _claim(self, operation: Operation[object], offset: int, size: int) -> None:
        """Note that a piece of a read has come, if it is one that was asked for."""
        begin = offset - operation.offset
        if operation.command is not Command.READ or begin < 0 or not 0 < size <= operation.length - begin:
            raise self._violation(f"data of {size} bytes at offset {offset}, which nobody asked for")
        operation.missing -= size
        operation.pieces.append((begin, begin + size))

    def _take_statuses(self, operation: Operation[object], length: int) -> None:
        count, rest = divmod(length - protocol.WORD.size, protocol.DESCRIPTOR.size)
        if operation.command is not Command.BLOCK_STATUS or rest or count < 1 or length > _MOST_STATUS_BYTES:
            raise self._violation(f"a block status chunk of {length} bytes")
        context = self._wire.unpack(protocol.WORD)[0]
        if context not in self._opened.contexts or context in operation.statuses:
            raise self._violation(f"block status in the context {context}, which is not expected")
        content = self._wire.receive(count * protocol.DESCRIPTOR.size)
        extents: list[Extent] = []
        position = operation.offset
        end = operation.offset + operation.length
        for size, flags in protocol.DESCRIPTOR.iter_unpack(content):
            if not size:
                raise self._violation("block status with an empty extent")
            if position >= end:
                break
            extents.append(Extent(position, size, flags))
            position += size
        operation.statuses[context] = extents

    def _take_error(self, operation: Operation[object], kind: int, length: int) -> None:
        if not protocol.ERROR.size <= length <= _MOST_MESSAGE_BYTES:
            raise self._violation(f"an error chunk of {length} bytes")
        error, message_length = self._wire.unpack(protocol.ERROR)
        rest = self._wire.receive(length - protocol.ERROR.size)
        if not error or message_length > len(rest):
            raise self._violation("an error chunk that contradicts itself")
        message = rest[:message_length].decode(errors="replace")
        offset = operation.offset
        if kind == Chunk.ERROR_OFFSET and len(rest) - message_length >= protocol.OFFSET.size:
            offset = protocol.OFFSET.unpack_from(rest, message_length)[0]
        if operation.failure is None:
            operation.failure = self._failed(operation, error, message, offset)

    def _find(self, cookie: int) -> Operation[object]:
        operation = self._pending.get(cookie)
        if operation is None:
            raise self._violation(f"a reply to the request {cookie}, which is not in flight")
        return operation

    def _finish(self, operation: Operation[object]) -> None:
        if operation.failure is None:
            if operation.missing or (len(operation.pieces) > 1 and _overlap(operation.pieces)):
                raise self._violation(f"a read at offset {operation.offset} that was not filled exactly once")
            if operation.command is Command.BLOCK_STATUS and len(operation.statuses) < len(self._opened.contexts):
                raise self._violation("block status that leaves out a context")
        del self._pending[operation.cookie]
        if operation.lane is not None:
            operation.lane.append(operation)

    # Ends

    def abandon(self, lane: deque[Operation[Request]]) -> None:
        """Forget what is in flight for this lane: its replies will be received and dropped.

        From here on no buffer of these requests is touched. The connection stays usable.
        """
        for operation in self._pending.values():
            if operation.lane is lane:
                operation.lane = None
                operation.target = None

    def close(self) -> None:
        """Take leave, without waiting for anything, and close the socket."""
        if self._ended is None:
            farewell = protocol.REQUEST.pack(protocol.REQUEST_MAGIC, 0, Command.DISCONNECT, 0, 0, 0)
            with suppress(OSError):  # It may be gone already, which is what was wanted.
                self._wire.send_some([farewell])
            self._wire.close()
            self._ended = "it was closed"

    def _break_off(self) -> None:
        """A signal came between the halves of a message: what follows could not be told apart from its rest."""
        self._wire.close()
        self._ended = "it was interrupted in the middle of a message"

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise ServerGone(
                f"The connection to {self._subject()} cannot be used any more: {self._ended}.",
                untouched=self._untouched(),
                next_step="connect again.",
            )

    def _lose(self, failure: OSError | ProtocolViolation) -> NbdError:
        """Whatever follows on this connection could not be believed: close it, and say why."""
        self._wire.close()
        if isinstance(failure, ProtocolViolation):
            self._ended = failure.what
            return failure
        reason = failure.strerror or str(failure) or type(failure).__name__
        self._ended = f"it was lost before ({reason})"
        kind = ServerSilent if isinstance(failure, TimeoutError) else ServerGone
        waiting = f" with {len(self._pending)} requests unanswered" if self._pending else ""
        return kind(
            f"The connection to {self._subject()} was lost{waiting}: {reason}.",
            untouched=self._untouched(),
            next_step=f"check that the server at {self._server} still runs and answers, then try again.",
        )

    # What goes wrong, in an operator's words

    def _subject(self) -> str:
        return f"the NBD export {self._export!r} at {self._server}"

    def _untouched(self) -> str:
        if not self._changed:
            return "Nothing was changed."
        return "Only the ranges that were being written may have changed; nothing else of the export did."

    def _violation(self, what: str) -> ProtocolViolation:
        return ProtocolViolation(
            f"The server of {self._subject()} broke the protocol: {what}.",
            untouched=self._untouched(),
            next_step="report it to those who make the server; nothing that it sent is used.",
        )

    def _failed(self, operation: Operation[object], error: int, message: str, offset: int) -> RequestFailed:
        name = protocol.error_name(error)
        deed = operation.command.name.lower().replace("_", " ")
        detail = f" ({message})" if message else ""
        kind = ExportFull if error == WireError.ENOSPC else RequestFailed
        return kind(
            f"The {deed} of {operation.length} bytes at offset {offset} of {self._subject()} failed: {name}{detail}.",
            untouched=self._untouched(),
            next_step=self._next_step(error),
            errno_name=name,
            offset=offset,
        )

    def _next_step(self, error: int) -> str:
        if error == WireError.ENOSPC:
            return "make room where the export is kept, then try again."
        if error == WireError.EPERM:
            return "serve the export writable, if it is meant to be written."
        if error == WireError.ESHUTDOWN:
            return "start the server again: it is shutting down."
        if error == WireError.EINVAL and self._opened.minimum_block_bytes > 1:
            return f"use offsets and lengths that are multiples of {self._opened.minimum_block_bytes} bytes."
        return f"look at the log of the server at {self._server}, and at the storage under it."


def _overlap(pieces: list[tuple[int, int]]) -> bool:
    pieces.sort()
    return any(pieces[index][1] > pieces[index + 1][0] for index in range(len(pieces) - 1))


def _fill_with_zeroes(target: memoryview) -> None:
    for begin in range(0, len(target), len(_ZEROES)):
        piece = target[begin : begin + len(_ZEROES)]
        piece[:] = _ZEROES[: len(piece)]
