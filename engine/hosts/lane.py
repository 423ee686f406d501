"""One thread a host: every libvirt call goes through its lane, so a host that hangs hangs nobody else.

libvirt's calls block and cannot be cancelled. So:

1. `run` hands the work to the host's thread and waits, no longer than its time limit.
2. The thread opens the connection when the first work comes, and again after it broke (the close callback or
   `isAlive` tell). Keepalive notices a daemon that is stopped or a network that swallows packets.
3. Work that exceeds its time is abandoned: the caller gets HostUnreachable, the stuck thread is left behind (a daemon
   thread; it ends if its call ever returns), and a new thread takes over what else was waiting.
4. After an opening that failed, callers are told so at once for a few seconds (longer each time it hangs), so that
   ten callers do not wait one after the other, and a dead host costs few stuck threads.

Locking: `_lock` guards the queue, the current worker and the breaker; it is never held during a libvirt call.

A connection lives in its thread's frame and nowhere else: closing a connection asks the daemon, which would hang the
exit of the process if Python's shutdown destroyed it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from engine.errors import NewhopeError
from engine.hosts import event_loop, uri
from engine.hosts.errors import HostRefused, HostUnreachable, refusal
from engine.hosts.files_of_host import HostFiles
from engine.hosts.reaching import reach_to
from engine.settings.model import Host

if TYPE_CHECKING:
    import libvirt

T = TypeVar("T")

BREAKER_S = 3.0
BREAKER_LONGEST_S = 60.0
KEEPALIVE_INTERVAL_S = 4
KEEPALIVE_COUNT = 2
CLOSE_TIMEOUT_S = 0.3


class _Call(Generic[T]):
    """One piece of work, from being handed over to its outcome."""

    def __init__(self, work: Callable[[libvirt.virConnect], T]) -> None:
        self.work = work
        self.started = False
        self.abandoned = False
        self.over = False
        self.result: T | None = None
        self.error: BaseException | None = None


class _Worker:
    """What a lane knows of one of its threads."""

    def __init__(self) -> None:
        self.opening_since: float | None = None
        self.replaced = False
        self.connection_lost = False
        self.ended = threading.Event()


class HostLane:
    """The way to a host: `run` gives work to its thread, with a time limit, and returns the work's result."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.reach = reach_to(host)
        self._lock = threading.Condition()
        self._queue: deque[_Call[object]] = deque()
        self._worker: _Worker | None = None
        self._closed = False
        self._failure: HostUnreachable | None = None
        self._failed_until = 0.0
        self._hangs = 0

    @property
    def files(self) -> HostFiles:
        """The files of the host."""
        return self.reach.files

    def run(self, work: Callable[[libvirt.virConnect], T], *, timeout_s: float = 15.0) -> T:
        """Run `work` with the host's connection, in the host's thread.

        Nothing of libvirt may be returned by `work`: its objects die with their connection. A libvirtError that `work`
        lets through becomes HostRefused (or the class of it that fits); every other exception comes as it is.
        Raises HostUnreachable if the host does not answer within `timeout_s`.
        """
        call = _Call(work)
        with self._lock:
            if self._closed:
                raise HostUnreachable(
                    self.host.name, "its connection was closed here", next_step="Start the command again."
                )
            self._raise_if_broken()
            self._queue.append(cast("_Call[object]", call))
            self._ensure_worker()
            self._lock.notify_all()
            self._wait(call, time.monotonic() + timeout_s, timeout_s)
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    def forget_failure(self) -> None:
        """Try again at the next call, however short ago the last attempt failed: an operator asked for it."""
        with self._lock:
            self._failure = None
            self._failed_until = 0.0

    def close(self) -> None:
        """Close the connection, waiting a moment at most; a stuck thread is left behind."""
        self.begin_close()
        self.finish_close(CLOSE_TIMEOUT_S)

    def begin_close(self) -> None:
        """The first half of `close`, which waits for nothing: so that many lanes close side by side."""
        with self._lock:
            self._closed = True
            for call in self._queue:
                call.error = HostUnreachable(
                    self.host.name, "its connection was closed here", next_step="Start the command again."
                )
                call.over = True
            self._queue.clear()
            self._lock.notify_all()

    def finish_close(self, timeout_s: float) -> None:
        """The second half of `close`: wait for the thread, no longer than `timeout_s`."""
        worker = self._worker
        if worker is not None:
            worker.ended.wait(max(0.0, timeout_s))
        self.reach.close()

    # Waiting, on the caller's side. All of these run with the lock held.

    def _wait(self, call: _Call[T], deadline: float, timeout_s: float) -> None:
        while not call.over:
            limit = deadline
            opening_since = self._worker.opening_since if self._worker is not None else None
            if opening_since is not None:
                limit = min(limit, opening_since + self.reach.open_timeout_s)
            remaining_s = limit - time.monotonic()
            if remaining_s > 0:
                self._lock.wait(remaining_s)
                continue
            self._give_up(call, opening_since, timeout_s)

    def _give_up(self, call: _Call[T], opening_since: float | None, timeout_s: float) -> None:
        waiting = cast("_Call[object]", call)
        if opening_since is not None:
            waited_s = time.monotonic() - opening_since
            failure = HostUnreachable(
                self.host.name,
                f"it said nothing for {waited_s:.0f} s while the connection was opened",
                next_step="Check that the machine is up and its libvirt daemon is not stopped or overloaded.",
            )
            call.error = failure
            if waiting in self._queue:
                self._queue.remove(waiting)
            # A caller with less patience than an opening may take gives up alone; the opening goes on for the others.
            if waited_s >= self.reach.open_timeout_s:
                self._hangs += 1
                self._break(failure, min(BREAKER_LONGEST_S, BREAKER_S * 2**self._hangs))
                self._fail_waiting(failure)
                self._replace_worker()
        elif call.started:
            call.error = HostUnreachable(
                self.host.name,
                f"it did not finish within {timeout_s:.0f} s what it was asked",
                next_step="Check that its libvirt daemon is not stopped or overloaded, then look again.",
                untouched="Whether it still happens on the host is not known.",
            )
            self._replace_worker()
        else:
            if waiting in self._queue:
                self._queue.remove(waiting)
            else:
                # Taken by the thread and not begun: it is stuck in putting its lost connection away.
                self._replace_worker()
            call.error = HostUnreachable(
                self.host.name,
                f"it was busy with earlier questions for {timeout_s:.0f} s",
                next_step="Try again in a moment.",
            )
        call.abandoned = True
        call.over = True

    def _raise_if_broken(self) -> None:
        if self._failure is not None and time.monotonic() < self._failed_until:
            # A new one each time: an exception that is raised twice grows its traceback.
            failure = self._failure
            raise HostUnreachable(failure.host, failure.reason, next_step=failure.next_step)

    def _break(self, failure: HostUnreachable, for_s: float) -> None:
        self._failure = failure
        self._failed_until = time.monotonic() + for_s

    def _fail_waiting(self, failure: HostUnreachable) -> None:
        for call in self._queue:
            call.error = HostUnreachable(failure.host, failure.reason, next_step=failure.next_step)
            call.over = True
        self._queue.clear()
        self._lock.notify_all()

    def _replace_worker(self) -> None:
        if self._worker is not None:
            self._worker.replaced = True
            self._worker = None
        if self._queue:
            self._ensure_worker()
        self._lock.notify_all()

    def _ensure_worker(self) -> None:
        if self._worker is None:
            self._worker = _Worker()
            threading.Thread(
                target=self._serve, args=(self._worker,), name=f"host-{self.host.name}", daemon=True
            ).start()

    # The host's thread.

    def _serve(self, worker: _Worker) -> None:
        connection: libvirt.virConnect | None = None
        while True:
            call = self._next_call(worker)
            if call is None:
                break
            if connection is not None and not self._usable(worker, connection):
                self._discard(connection)
                connection = None
            if connection is None:
                connection = self._open(worker, call)
            if connection is not None:
                self._carry_out(worker, call, connection)
            del call
        if connection is not None:
            self._discard(connection)
        worker.ended.set()

    def _next_call(self, worker: _Worker) -> _Call[object] | None:
        with self._lock:
            while True:
                if worker.replaced or self._closed:
                    return None
                if self._queue:
                    return self._queue.popleft()
                self._lock.wait()

    def _usable(self, worker: _Worker, connection: libvirt.virConnect) -> bool:
        import libvirt

        try:
            return not worker.connection_lost and bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _open(self, worker: _Worker, call: _Call[object]) -> libvirt.virConnect | None:
        """A new connection; without one, the call and all that wait have failed."""
        with self._lock:
            # Put back, so that the waiting caller sees an opening that hangs, not work that hangs.
            if not call.over:
                self._queue.appendleft(call)
            worker.opening_since = time.monotonic()
            worker.connection_lost = False
            self._lock.notify_all()
        connection: libvirt.virConnect | None = None
        failure: HostUnreachable | None = None
        defect: BaseException | None = None
        try:
            connection = self._connect(worker)
        except HostUnreachable as error:
            failure = error.with_traceback(None)
        except BaseException as error:
            defect = error
        with self._lock:
            worker.opening_since = None
            if worker.replaced:
                # It answered after all, too late for us: let the next call try at once.
                if connection is not None:
                    self._failed_until = 0.0
                return connection
            if failure is not None:
                self._break(failure, BREAKER_S)
                self._fail_waiting(failure)
                return None
            if call in self._queue:
                self._queue.remove(call)
            if defect is not None:
                call.error, call.over = defect, True
                self._lock.notify_all()
                return None
            self._failure, self._hangs = None, 0
            return connection

    def _connect(self, worker: _Worker) -> libvirt.virConnect:
        name = self.host.name
        uri.check(name, self.host.uri)
        event_loop.ensure_running()
        import libvirt

        try:
            connection = libvirt.open(self.reach.connection_uri())
        except libvirt.libvirtError as error:
            raise self.reach.failure(str(error)) from None
        # libvirt's own test driver has neither; a connection that broke just now shows with the first call.
        with suppress(libvirt.libvirtError):
            connection.registerCloseCallback(self._connection_closed, worker)
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        return connection

    def _connection_closed(self, _connection: libvirt.virConnect, _reason: int, worker: _Worker) -> None:
        worker.connection_lost = True

    def _carry_out(self, worker: _Worker, call: _Call[object], connection: libvirt.virConnect) -> None:
        import libvirt

        with self._lock:
            if call.over or worker.replaced:
                return
            call.started = True
        result: object = None
        failure: BaseException | None = None
        try:
            result = call.work(connection)
        except libvirt.libvirtError as error:
            failure = self._translate(worker, connection, error)
        except NewhopeError as error:
            # Without the frames that hold libvirt's objects: the caller may keep the error.
            failure = error.with_traceback(None)
        except BaseException as error:
            failure = error
        with self._lock:
            if not call.abandoned:
                call.result, call.error, call.over = result, failure, True
                self._lock.notify_all()

    def _translate(
        self, worker: _Worker, connection: libvirt.virConnect, error: libvirt.libvirtError
    ) -> HostRefused | HostUnreachable:
        if self._usable(worker, connection):
            return refusal(self.host.name, error)
        failure = self.reach.failure(str(error))
        return HostUnreachable(
            failure.host,
            failure.reason,
            next_step=failure.next_step,
            untouched="Whether the host did what it was asked is not known.",
        )

    def _discard(self, connection: libvirt.virConnect) -> None:
        import libvirt

        with suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with suppress(libvirt.libvirtError):
            connection.close()
