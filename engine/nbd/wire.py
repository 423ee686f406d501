"""A connected socket on which whole messages are received and gathered buffers are sent.

Small things (headers, descriptors) come out of a read-ahead buffer that one system call fills with as many of them as
have arrived. Large things (payloads) are received straight into their final place: of a payload, only what happened
to arrive together with its header is ever copied.

Receiving and sending do not share state, so one thread may receive while another one sends. Two threads that do the
same need a lock of their own.

A peer that hangs up is a `ConnectionError`, one that is silent for too long a `TimeoutError`; who holds the wire
knows what that means and says it in an operator's words.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Any

Bytes = bytes | bytearray | memoryview

READ_AHEAD_BYTES = 4096
"""Enough for a hundred headers, and little to copy when it catches the beginning of a payload."""
MOST_BUFFERS = 1024
"""Buffers that one `sendmsg` takes (`IOV_MAX` of Linux)."""
SOCKET_BUFFER_BYTES = 2 * 1024 * 1024
_TIMEVAL = Struct("@ll")


class Wire:
    """One connection, seen as bytes. It owns the socket and closes it."""

    __slots__ = ("_ahead", "_ahead_view", "_begin", "_end", "_poll", "_socket", "_timeout_ms")

    def __init__(self, connected: socket.socket, timeout_s: float | None = None) -> None:
        self._socket = connected
        self._ahead = bytearray(READ_AHEAD_BYTES)
        self._ahead_view = memoryview(self._ahead)
        self._begin = 0
        self._end = 0
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN | select.POLLOUT)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self.set_timeout(timeout_s)

    def set_timeout(self, timeout_s: float | None) -> None:
        """How long the peer may move nothing at all; None: for ever."""
        # The kernel counts the time. Python's own timeout would ask poll() before every single recv().
        self._socket.settimeout(None)
        forever = 0
        microseconds = forever if timeout_s is None else max(1, int(timeout_s * 1_000_000))
        interval = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
        self._timeout_ms = None if timeout_s is None else max(1, int(timeout_s * 1000))

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        """Receive one small message of a fixed layout."""
        begin = self._gather(layout.size)
        self._begin = begin + layout.size
        return layout.unpack_from(self._ahead, begin)

    def peek(self, layout: Struct) -> tuple[Any, ...]:
        """What the next bytes say, without taking them."""
        return layout.unpack_from(self._ahead, self._gather(layout.size))

    def _gather(self, count: int) -> int:
        """Have `count` bytes together in the read-ahead buffer; gives where they begin."""
        waiting = self._end - self._begin
        if waiting >= count:
            return self._begin
        if waiting:
            self._ahead[:waiting] = self._ahead[self._begin : self._end]
        self._begin, self._end = 0, waiting
        while self._end < count:
            self._end += self._receive_parts(self._ahead_view[self._end :])
        return 0

    def receive_into(self, target: memoryview) -> None:
        """Fill `target` with the next bytes."""
        waiting = self._end - self._begin
        filled = min(waiting, len(target))
        if filled:
            target[:filled] = self._ahead_view[self._begin : self._begin + filled]
            self._begin += filled
        while filled < len(target):
            # What has arrived behind the payload (the next header) comes with the same call.
            filled += self._receive_parts(target[filled:], self._ahead_view)
        if filled > len(target):
            self._begin, self._end = 0, filled - len(target)

    def receive(self, count: int) -> bytearray:
        """The next bytes, in a buffer of their own."""
        content = bytearray(count)
        self.receive_into(memoryview(content))
        return content

    def skip(self, count: int) -> None:
        """Let the next bytes go by, however many, in bounded memory."""
        sink = memoryview(bytearray(min(count, 64 * 1024)))
        while count:
            piece = sink[: min(count, len(sink))]
            self.receive_into(piece)
            count -= len(piece)

    def _receive_parts(self, *targets: memoryview) -> int:
        try:
            received = self._socket.recvmsg_into(targets)[0]
        except BlockingIOError:
            raise TimeoutError("nothing was received") from None
        if not received:
            raise ConnectionResetError("the connection was closed by the other side")
        return received

    def send(self, *buffers: Bytes) -> None:
        """Send all of them, waiting as long as it takes (but for the timeout)."""
        rest: Sequence[Bytes] = buffers
        while rest:
            try:
                sent = self._socket.sendmsg(rest[:MOST_BUFFERS])
            except BlockingIOError:
                raise TimeoutError("nothing could be sent") from None
            rest = behind(rest, sent)

    def send_some(self, buffers: Sequence[Bytes]) -> int:
        """Send what the kernel takes at once; 0 when its buffer is full."""
        try:
            return self._socket.sendmsg(buffers[:MOST_BUFFERS], (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def wait(self) -> bool:
        """Wait until something can be sent or received; whether something can be received."""
        if self._end > self._begin:
            return True
        ready = self._poll.poll(self._timeout_ms)
        if not ready:
            raise TimeoutError("nothing could be sent or received")
        return bool(ready[0][1] & ~select.POLLOUT)

    def hang_up(self) -> None:
        """End the conversation at once, for whoever waits on it in another thread too."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def behind(buffers: Sequence[Bytes], sent: int) -> Sequence[Bytes]:
    """What is left of the buffers when their first `sent` bytes are gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return ()
