"""A storage in memory, shared by the processes of a simulated world; every operation of theirs is a point to switch at.

It promises what `engine.repository.storage` asks for and not a bit more:

- A listing is no snapshot: it is made page by page, and others create and delete between the pages.
- A process may be switched, or killed, before an operation takes effect and after it, before it learns of that.
- What a process had asked for when it was killed may be done later, as a server does with a request that is on its way.
- Operations may fail: without effect, after it, or before an effect that comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.repository.errors import ObjectExists, ObjectMissing, StorageFailed
from engine.repository.ranges import whole
from engine.repository.storage import Bytes, ObjectEntry
from tests.faults.simulated_world import BEGIN, Killed, World

PAGE = 3


@dataclass
class Trouble:
    """What becomes of the next change that a process asks for."""

    done: bool
    """It takes effect, and its answer is lost."""
    later: bool = False
    """It takes effect some time after it was told to have failed."""


class SimulatedStorage:
    location = "a simulated place"
    settles_s = 3600.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects: dict[str, bytes] = {}
        self.created: dict[str, datetime] = {}
        self.deleted: set[str] = set()
        self.operations = 0
        self.on_its_way: list[Callable[[], None]] = []
        """What killed processes had asked for, and nobody has answered yet."""
        self.trouble: dict[int, Trouble] = {}
        """By process."""

    def create(self, key: str, content: Bytes) -> None:
        self._change(key, lambda: self._put(key, bytes(content)))

    def open_new(self) -> NewInMemory:
        self._switch()
        return NewInMemory(self)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self._switch()
        content = self._found(key)
        return content[offset:] if length is None else content[offset : offset + max(length, 0)]

    def map(self, key: str) -> bytes:
        return self.read(key)

    def ranges(self, key: str, size_bytes: int | None = None) -> Pieces:
        return Pieces(self, key, self.size(key) if size_bytes is None else size_bytes)

    def size(self, key: str) -> int:
        self._switch()
        return len(self._found(key))

    def created_at(self, key: str) -> datetime:
        self._switch()
        self._found(key)
        return self.created[key]

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        last = ""
        while True:
            self._switch()
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > last)[:PAGE]
            yield from [ObjectEntry(key, len(self.objects[key])) for key in keys]
            if len(keys) < PAGE:
                return
            last = keys[-1]

    def delete(self, key: str) -> None:
        def gone() -> None:
            if self.objects.pop(key, None) is not None:
                self.deleted.add(key)

        self._change(key, gone)

    def clear_leftovers(self) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None

    def _put(self, key: str, content: bytes) -> None:
        if key in self.objects:
            raise ObjectExists(key, self.location)
        self.objects[key] = content
        self.created[key] = BEGIN + timedelta(seconds=self.world.passed_s)

    def _found(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissing(key, self.location)
        return self.objects[key]

    def _change(self, key: str, effect: Callable[[], None]) -> None:
        task = self.world.current
        if task is not None and task.process.killed:
            raise Killed
        try:
            self._switch()
        except Killed:
            self.on_its_way.append(effect)
            raise
        trouble = self.trouble.pop(task.process.pid, None) if task else None
        if trouble is None:
            effect()
            self._switch()
            return
        if trouble.done:
            effect()
        elif trouble.later:
            self.on_its_way.append(effect)
        raise StorageFailed(f"Could not change {key}.", untouched="It is not known whether it was done.", next_step="")

    def _switch(self) -> None:
        self.operations += 1
        self.world.pause()


class Pieces:
    """Of an object of a bucket: one that is deleted is gone for those too who had opened it."""

    def __init__(self, storage: SimulatedStorage, key: str, size_bytes: int) -> None:
        self.storage = storage
        self.key = key
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        return whole(self.storage.read(self.key, offset, length), offset, length)

    def expect_all(self) -> None:
        pass


class NewInMemory:
    def __init__(self, storage: SimulatedStorage) -> None:
        self._storage = storage
        self._content = bytearray()

    def write(self, *pieces: Bytes) -> None:
        for piece in pieces:
            self._content += piece

    def finish(self, key: str) -> None:
        self._storage.create(key, self._content)

    def abandon(self) -> None:
        pass
