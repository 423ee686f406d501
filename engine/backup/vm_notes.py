"""Notes of what newhope is doing to a VM that has to be undone, written before the act and durable.

Those of acts that a guest would feel are kept twice: by the VM's host (`hosts.vm_note`), where every newhope finds them
that comes to this VM, and in this machine's state folder, which also knows what waits on a host that does not answer,
and of a VM whose definition somebody has replaced. Whoever finds a note of a dead process undoes the act (`leftovers`).

Those of dirty bitmaps that are about to be begun are kept here alone, and need not outlive a power cut: while its VM
runs, nobody but QEMU knows a bitmap of which libvirt has no checkpoint, and nothing finds it but its name
(`stray_marks`).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.hosts import (
    GuestDidNotShutDown,
    HostLane,
    HostRefused,
    HostUnreachable,
    MissingOnHost,
    backup_job,
    vm_note,
)
from engine.hosts.freeze import GuestStillFrozen
from engine.hosts.model import Vm, VmState
from engine.hosts.owner import Owner, this_process
from engine.hosts.vm_note import Act, VmNote

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_AT_ITS_END = {Act.PAUSED: VmState.RUNNING, Act.SHUT_DOWN: VmState.RUNNING, Act.STARTED: VmState.OFF}
"""The state in which nothing is left to be undone."""


class KeptNote(Struct, frozen=True):
    """A note as this machine keeps it."""

    host: str
    vm_uuid: str
    vm: str
    note: VmNote
    on_host: bool
    """Whether the host keeps it too. If so, it is over when the host has it no longer."""


class BegunMark(Struct, frozen=True):
    """The dirty bitmaps of one name that a backup was about to begin on a VM's disks."""

    host: str
    vm_uuid: str
    name: str
    owner: Owner


class VmNotes:
    """The notes in one state folder, and on the hosts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._folder = state / "vms-at-work"

    @contextmanager
    def noted(self, lane: HostLane, vm: Vm, act: Act) -> Generator[None]:
        """Do the act inside; the note stays if it could not be undone, or if this process dies."""
        self.write(lane, vm, act)
        try:
            yield
        except BaseException as error:
            if self._is_undone(lane, vm, act, error):
                self.erase(lane, vm.uuid)
            raise
        self.erase(lane, vm.uuid)

    def write(self, lane: HostLane, vm: Vm, act: Act) -> None:
        """Note an act that is about to begin. Raises HostUnreachable, MissingOnHost."""
        domain_id = backup_job.look(lane, vm.uuid).domain_id
        note = VmNote(act=act, owner=this_process(), domain_id=domain_id, began=datetime.now(UTC))
        # One of both places is enough: a full disk here or a host that keeps no metadata must not stop a backup.
        on_host = True
        try:
            vm_note.write(lane, vm.uuid, note)
        except MissingOnHost:
            raise
        except HostRefused:
            on_host = False
        with suppress(OSError):
            self._keep(KeptNote(lane.host.name, vm.uuid, vm.name, note, on_host))

    def erase(self, lane: HostLane, vm_uuid: str) -> None:
        """Nothing needs to be undone any more. A host that does not let the note be erased keeps it, and it is old."""
        with suppress(NewhopeError):
            vm_note.erase(lane, vm_uuid)
        with suppress(OSError):
            self._file(lane.host.name, vm_uuid).unlink(missing_ok=True)

    def kept(self) -> tuple[KeptNote, ...]:
        """All notes of this machine, oldest first."""
        try:
            files = sorted(self._folder.glob("*.json"))
        except OSError:
            return ()
        notes: list[KeptNote] = []
        for file in files:
            with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                notes.append(msgspec.json.decode(file.read_bytes(), type=KeptNote))
        return tuple(sorted(notes, key=lambda each: each.note.began))

    def begin_mark(self, host: str, vm_uuid: str, name: str) -> None:
        """Note dirty bitmaps that are about to be begun; at once, for a guest may be frozen."""
        mark = BegunMark(host, vm_uuid, name, this_process())
        # A full disk here must not stop a backup; what would be left costs the guest a little memory.
        with suppress(OSError):
            _write(self._mark_file(host, vm_uuid, name), msgspec.json.encode(mark), sync=False)

    def end_mark(self, host: str, vm_uuid: str, name: str) -> None:
        """They belong to a recovery point, or are gone; what was not noted is fine."""
        with suppress(OSError):
            self._mark_file(host, vm_uuid, name).unlink(missing_ok=True)

    def marks_left(self, host: str, vm_uuid: str) -> tuple[str, ...]:
        """Names of bitmaps that processes were about to begin on a VM which are dead."""
        found: list[str] = []
        try:
            files = sorted(self._folder.glob(f"{glob.escape(self._stem(host, vm_uuid))}--*.mark"))
        except OSError:
            return ()
        for file in files:
            with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                mark = msgspec.json.decode(file.read_bytes(), type=BegunMark)
                if mark.owner.dead:
                    found.append(mark.name)
        return tuple(found)

    def only_here(self, host: str, vm_uuid: str) -> VmNote | None:
        """The note of a VM whose host refused to keep it."""
        for each in self.kept():
            if (each.host, each.vm_uuid, each.on_host) == (host, vm_uuid, False):
                return each.note
        return None

    def _is_undone(self, lane: HostLane, vm: Vm, act: Act, error: BaseException) -> bool:
        if act is Act.FROZEN:
            return not isinstance(error, GuestStillFrozen)
        if isinstance(error, GuestDidNotShutDown):
            # It was asked, and may yet do so.
            return False
        try:
            return backup_job.look(lane, vm.uuid).state is _AT_ITS_END[act] and not isinstance(error, HostUnreachable)
        except NewhopeError:
            return False

    def _keep(self, kept: KeptNote) -> None:
        _write(self._file(kept.host, kept.vm_uuid), msgspec.json.encode(kept), sync=True)

    def _file(self, host: str, vm_uuid: str) -> Path:
        return self._folder / f"{self._stem(host, vm_uuid)}.json"

    def _mark_file(self, host: str, vm_uuid: str, name: str) -> Path:
        return self._folder / f"{self._stem(host, vm_uuid)}--{name}.mark"

    def _stem(self, host: str, vm_uuid: str) -> str:
        return f"{_UNSAFE.sub('_', host)}--{vm_uuid}"


def _write(file: Path, content: bytes, *, sync: bool) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as writing:
        writing.write(content)
        if sync:
            writing.flush()
            os.fsync(writing.fileno())
    part.replace(file)
