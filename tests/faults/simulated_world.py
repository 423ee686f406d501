"""Processes on several machines, simulated in one thread of time: one of them runs at any instant, chosen by a test.

What runs is the real code of `engine.repository`, threads and all. Only what it asks the system for is replaced: locks,
queues, events, threads, clocks and process numbers come from here (`World.patched`), and storage is `SimulatedStorage`.
Each wait and each storage operation hands control back, so that a test decides what happens next, and the same choices
lead to the same history every time.

- A *process* has a machine, a wall clock that may be wrong, and tasks (its threads). Killing it ends all of them where
  they stand; nothing they still try reaches the storage.
- Time passes only when the test says so. A process that is not let run while time passes has slept.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import msgspec

from engine.repository.guards import Guard
from engine.repository.lease import Lease
from engine.repository.pending import PendingPoint

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Killed(BaseException):
    """The process of this task was killed."""


@dataclass
class Process:
    pid: int
    machine: str
    clock_off: timedelta = timedelta()
    """How far its wall clock is ahead."""
    killed: bool = False
    tasks: list[Task] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return not self.killed and any(not task.over for task in self.tasks)


@dataclass(eq=False)
class Task:
    process: Process
    name: str
    work: Callable[[], None]
    helper: bool
    """A thread that its process started, not what it was started for."""
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    until: Callable[[], bool] | None = None
    over: bool = False
    failure: BaseException | None = None

    @property
    def ready(self) -> bool:
        return not self.over and (self.until is None or self.until())


class World:
    def __init__(self) -> None:
        self.passed_s = 0.0
        self.processes: list[Process] = []
        self.current: Task | None = None
        self._back = threading.Semaphore(0)

    def process(self, machine: str, clock_off: timedelta = timedelta()) -> Process:
        self.processes.append(Process(1000 + len(self.processes), machine, clock_off))
        return self.processes[-1]

    def begin(self, process: Process, work: Callable[[], None], name: str = "", *, helper: bool = False) -> Task:
        task = Task(process, name, work, helper)
        process.tasks.append(task)
        threading.Thread(target=self._live, args=(task,), daemon=True).start()
        return task

    def step(self, task: Task) -> None:
        """Let a task run up to its next wait or storage operation."""
        assert self.current is None
        self.current = task
        task.until = None
        task.turn.release()
        self._back.acquire()
        self.current = None
        if task.failure is not None and not isinstance(task.failure, Killed):
            raise task.failure

    def kill(self, process: Process) -> None:
        process.killed = True
        for task in process.tasks:
            while not task.over:
                self.step(task)

    def pause(self, until: Callable[[], bool] | None = None) -> None:
        """Called by a task: hand control back, until something holds. Outside of tasks nothing waits."""
        task = self.current
        if task is None:
            assert until is None or until()
            return
        if task.process.killed:
            raise Killed
        task.until = until
        self._back.release()
        task.turn.acquire()
        if task.process.killed:
            raise Killed

    def _live(self, task: Task) -> None:
        task.turn.acquire()
        try:
            if not task.process.killed:
                task.work()
        except BaseException as failure:
            task.failure = failure
        task.over = True
        self._back.release()

    def now(self) -> datetime:
        """What the wall clock of the process that runs shows."""
        off = self.current.process.clock_off if self.current else timedelta()
        return BEGIN + timedelta(seconds=self.passed_s) + off

    @contextmanager
    def patched(self) -> Generator[None]:
        """Let the repository's code live in this world."""
        for kind in (Lease, Guard, PendingPoint):
            msgspec.json.Decoder(kind)  # looks at the real `datetime` before it is replaced
        world = self

        class Wall(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return world.now()

        threads = SimpleNamespace(
            Lock=lambda: Lock(self),
            Condition=lambda: Condition(self),
            Event=lambda: Event(self),
            Thread=lambda **about: Thread(self, **about),
            local=threading.local,
        )
        queues = SimpleNamespace(Queue=lambda size=0: Queue(self, size), SimpleQueue=lambda: Queue(self, 0))
        system = SimpleNamespace(
            getpid=lambda: self.current.process.pid if self.current else 1,
            uname=lambda: SimpleNamespace(nodename=self._machine()),
        )
        at = "engine.repository."
        with ExitStack() as stack:
            for name in [name for name in sys.modules if name.startswith(at)]:
                # Whatever is left out would wait for a thread that is not its turn, for ever.
                for what, ours in (("threading", threads), ("queue", queues), ("ThreadPoolExecutor", AtOnce)):
                    if hasattr(sys.modules[name], what):
                        stack.enter_context(patch(f"{name}.{what}", ours))
            # What is random in a real repository would make the number of operations vary between two equal histories.
            chance = random.Random(20)
            secrets = SimpleNamespace(token_bytes=chance.randbytes, token_hex=lambda size: chance.randbytes(size).hex())
            for module in ("condemned", "guards", "lease", "pack", "repository", "reserve", "verify_history"):
                stack.enter_context(patch(f"{at}{module}.secrets", secrets))
            for module in ("lease", "collection", "guards", "manifest", "repository", "verify_history"):
                stack.enter_context(patch(f"{at}{module}.datetime", Wall))
            stack.enter_context(patch(f"{at}lease.os", system))
            stack.enter_context(patch(f"{at}lease._boot_id", self._machine))
            stack.enter_context(patch(f"{at}lease._process_namespace", lambda: "pid:[1]"))
            stack.enter_context(patch(f"{at}lease._started", self._started))
            stack.enter_context(patch(f"{at}lease._clock_s", lambda: self.passed_s))
            stack.enter_context(patch(f"{at}index.now_us", lambda: int(self.now().timestamp() * 1e6)))
            stack.enter_context(patch(f"{at}writer.os", SimpleNamespace(cpu_count=lambda: 1)))
            yield

    def _machine(self) -> str:
        return self.current.process.machine if self.current else "the test"

    def _started(self, pid: int) -> int:
        return 7 if any(each.pid == pid and not each.killed for each in self.processes) else 0


class Lock:
    def __init__(self, world: World) -> None:
        self.world = world
        self.held = False

    def __enter__(self) -> None:
        if self.held:
            self.world.pause(lambda: not self.held)
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False

    def acquire(self, *, blocking: bool) -> bool:
        assert not blocking
        taken, self.held = not self.held, True
        return taken

    def release(self) -> None:
        self.held = False


class Condition(Lock):
    def wait_for(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.held = False
            self.world.pause(lambda: not self.held and holds())
            self.held = True

    def notify_all(self) -> None:
        """Those who wait look for themselves."""


class Event:
    def __init__(self, world: World) -> None:
        self.world = world
        self.happened = False

    def set(self) -> None:
        self.happened = True

    def is_set(self) -> bool:
        return self.happened

    def wait(self, timeout: float) -> bool:
        end = self.world.passed_s + timeout
        self.world.pause(lambda: self.happened or self.world.passed_s >= end)
        return self.happened


class Queue:
    def __init__(self, world: World, size: int) -> None:
        self.world = world
        self.size = size
        self.items: deque[object] = deque()

    def put(self, item: object) -> None:
        if self.size and len(self.items) >= self.size:
            self.world.pause(lambda: len(self.items) < self.size)
        self.items.append(item)

    def get(self) -> object:
        while not self.items:
            self.world.pause(lambda: bool(self.items))
        return self.items.popleft()


class Thread:
    def __init__(self, world: World, target: Callable[[], None], name: str, daemon: bool) -> None:
        self.world = world
        self.target = target
        self.name = name
        self.task: Task | None = None

    def start(self) -> None:
        current = self.world.current
        assert current is not None
        self.task = self.world.begin(current.process, self.target, self.name, helper=True)

    def join(self) -> None:
        task = self.task
        assert task is not None
        if not task.over:
            self.world.pause(lambda: task.over)


class AtOnce:
    """Does what a pool of threads is given at once."""

    def __init__(self, workers: int, thread_name_prefix: str = "") -> None:
        pass

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., object], *arguments: object) -> Future[object]:
        future: Future[object] = Future()
        try:
            future.set_result(work(*arguments))
        except Killed:
            raise
        except BaseException as failure:
            future.set_exception(failure)
        return future
