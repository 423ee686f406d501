"""What a killed restore leaves behind, and how the next one to the same place takes it away.

Before a volume is made its name is written down in the state folder; the note goes when the VM is defined (from then
on it is whole) or when the restore was undone. The restore's lock lets one job at a time work under a name on a host,
so whoever finds a note there finds that of a dead one. Only volumes that stand in a note are ever deleted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.hosts import HostLane, take_snapshot, volumes

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class _Made(Struct, frozen=True):
    pool: str
    name: str


class RestoreNote:
    """The note of one restore under way: which volumes it has begun to make on its host."""

    def __init__(self, state: Path, host: str, vm_name: str) -> None:
        self._file = state / "restores" / f"{_UNSAFE.sub('_', host)}--{_UNSAFE.sub('_', vm_name)}.json"
        self._made: list[_Made] = []

    def add(self, pool: str, name: str) -> None:
        """A volume is about to be made; durable before this returns."""
        self._made.append(_Made(pool, name))
        self._write()

    def forget(self) -> None:
        """Nothing of this restore needs to be taken away any more."""
        self._file.unlink(missing_ok=True)

    def clear_leftovers(self, lane: HostLane) -> tuple[str, ...]:
        """Delete the volumes of a dead restore of the same name that no VM uses; answers their names."""
        try:
            left = msgspec.json.decode(self._file.read_bytes(), type=list[_Made])
        except (FileNotFoundError, msgspec.DecodeError):
            return ()
        used = {
            Path(path).name
            for vm in take_snapshot(lane).vms
            for path in (*(disk.source for disk in vm.disks), *vm.boot_files, vm.nvram)
            if path
        }
        cleared: list[str] = []
        for each in left:
            if each.name not in used and volumes.exists(lane, each.pool, each.name):
                volumes.delete(lane, each.pool, each.name)
                cleared.append(each.name)
        self.forget()
        return tuple(cleared)

    def _write(self) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        with part.open("wb") as file:
            file.write(msgspec.json.encode(self._made))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._file)
