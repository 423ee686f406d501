"""The server: a Unix socket or TCP port, the exports behind it, and the threads between them."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.nbd.address import TcpAddress, UnixAddress
from engine.nbd.conversation import Conversation, ServedFailure
from engine.nbd.export import Export
from engine.nbd.listening import Listener, TcpListener
from engine.nbd.welcome import Welcome
from engine.nbd.wire import Wire

HANDSHAKE_TIMEOUT_S = 10.0
"""A client that says nothing for this long before it has chosen an export is sent away."""
CLOSING_S = 0.9
_FAILURES_KEPT = 100
_ACCEPT_PAUSE_S = 0.1


class Server:
    """Serves named exports until it is closed. A context manager that starts on entering.

    One thread accepts; each connection has a thread of its own and `workers` requests under way at a time. Clients
    beyond `most_connections` are hung up on. Nothing that a client sends ends anything but its own connection.
    """

    def __init__(
        self,
        where: Path | str | TcpAddress,
        exports: Mapping[str, Export],
        *,
        workers: int = 4,
        most_connections: int = 32,
    ) -> None:
        self.address = where if isinstance(where, TcpAddress) else UnixAddress(str(where))
        self._exports = dict(exports)
        self._workers = workers
        self._most_connections = most_connections
        self._listener: Listener | TcpListener | None = None
        self._accepting: threading.Thread | None = None
        self._closing = threading.Event()
        self._failures: deque[ServedFailure] = deque(maxlen=_FAILURES_KEPT)
        # Guards the two below, which the accepting thread, each connection's thread and close() change.
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, Wire] = {}
        self._served = 0

    @property
    def failures(self) -> tuple[ServedFailure, ...]:
        """The last requests that an export failed to do, oldest first: what clients were told as I/O errors."""
        return tuple(self._failures)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        with self._lock:
            return len(self._connections)

    def start(self) -> None:
        """Listen. Clients can connect when this returns. Raises `NotServable`."""
        if self._listener is not None or self._closing.is_set():
            raise RuntimeError("a server starts once")
        if isinstance(self.address, TcpAddress):
            self._listener = TcpListener(self.address)
        else:
            self._listener = Listener(Path(self.address.path))
        self._accepting = threading.Thread(
            target=self._accept, args=(self._listener.socket,), name="nbd-accept", daemon=True
        )
        self._accepting.start()

    def close(self) -> None:
        """End every connection and stop listening (a socket is removed), within a second; twice does no harm.

        A read that an export has begun and does not finish in that time ends by itself later; nobody gets its data.
        """
        self._closing.set()
        listener, self._listener = self._listener, None
        if listener is None or self._accepting is None:
            return
        deadline = time.monotonic() + CLOSING_S
        listener.wake()
        self._accepting.join(CLOSING_S)
        listener.close()
        with self._lock:
            connections = list(self._connections)
            for wire in self._connections.values():
                wire.hang_up()
        for connection in connections:
            connection.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, listening: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                connected, _ = listening.accept()
            except OSError:
                # Out of file descriptors, or the client left already; or close() woke us and we end.
                self._closing.wait(_ACCEPT_PAUSE_S)
                continue
            self._admit(connected)

    def _admit(self, connected: socket.socket) -> None:
        with self._lock:
            full = len(self._connections) >= self._most_connections
            if full or self._closing.is_set():
                connected.close()
                return
            self._served += 1
            wire = Wire(connected, HANDSHAKE_TIMEOUT_S)
            thread = threading.Thread(target=self._serve, args=(wire,), name=f"nbd-{self._served}", daemon=True)
            self._connections[thread] = wire
        try:
            thread.start()
        except RuntimeError:  # The system has no thread left to give: the next client may be luckier.
            with self._lock:
                del self._connections[thread]
            wire.close()

    def _serve(self, wire: Wire) -> None:
        try:
            with suppress(OSError):  # The client is gone, and it was its connection alone.
                chosen = Welcome(wire, self._exports).run()
                if chosen is not None:
                    wire.set_timeout(None)
                    Conversation(wire, chosen, self._workers, self._failures.append).run()
        finally:
            # From here on close() must not hang up: the descriptor may soon be somebody else's.
            with self._lock:
                del self._connections[threading.current_thread()]
                wire.close()
