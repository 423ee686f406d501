"""The steps of a restore as values: which there are for a decided request, in which order.

A plan shows them, the restore journal marks them under their keys, and `carrying_out` knows for each kind how it is
done and how it is undone. A new way to restore is a new kind here, with a module of its own.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from engine.repository import Manifest
from engine.restore.model import Mode, Request

BOOT_FILES = {"nvram": "its NVRAM", "kernel": "its kernel", "initrd": "its initial RAM disk"}
"""Roles of a recovery point's files that lie beside the disks of the restored VM, and what a plan calls them."""

MEMORY = "saved-state"
"""Role of the file that holds the guest's memory."""


class StepKind(StrEnum):
    """What a step does; the names stand in the restore journal."""

    CHECK = "check"
    NOTE = "note"
    SERVE = "serve"
    OVERLAY = "overlay"
    WRITE = "write"
    VERIFY = "verify"
    BOOT_FILES = "boot-files"
    MEMORY = "memory"
    STOP = "stop-original"
    ASIDE = "set-aside"
    DEFINE = "define"
    TRACK = "track"
    START = "start"
    WAKE = "wake"
    ASK = "ask-agent"
    GUEST_CHECK = "guest-check"
    WATCH = "watch"
    MOVE = "move"
    LET_GO = "let-go"
    TAKE_AWAY = "take-away"
    """Not a step of its own to be undone: the undo of all others, which ends a proof."""


_TITLES = {
    StepKind.CHECK: "check the target again",
    StepKind.NOTE: "leave a note on the host",
    StepKind.SERVE: "serve the recovery point",
    StepKind.OVERLAY: "begin {of} over it",
    StepKind.WRITE: "write {of}",
    StepKind.VERIFY: "read {of} again",
    StepKind.BOOT_FILES: "put its boot files",
    StepKind.MEMORY: "put its memory",
    StepKind.STOP: "shut the original down",
    StepKind.ASIDE: "set the original aside",
    StepKind.DEFINE: "define the VM",
    StepKind.TRACK: "begin its dirty bitmaps",
    StepKind.START: "start it",
    StepKind.WAKE: "let it go on from its memory",
    StepKind.ASK: "ask its guest agent",
    StepKind.GUEST_CHECK: "check in the guest: {of}",
    StepKind.WATCH: "watch it",
    StepKind.TAKE_AWAY: "take it away",
    StepKind.MOVE: "move {of} over",
    StepKind.LET_GO: "let the recovery point go",
}


class Step(Struct, frozen=True):
    """One step."""

    kind: StepKind
    of: str = ""
    """The disk, or the check, that it is about."""

    @property
    def key(self) -> str:
        """What the journal calls it."""
        return f"{self.kind.value}:{self.of}" if self.of else self.kind.value

    @property
    def title(self) -> str:
        """What people call it."""
        return _TITLES[self.kind].format(of=self.of)


def steps_of(manifest: Manifest, request: Request) -> tuple[Step, ...]:
    """The steps of a decided request in the order in which they run; the writing of several disks runs side by side."""
    targets = [disk.target for disk in manifest.disks]
    steps = [Step(StepKind.CHECK), Step(StepKind.NOTE)]
    if request.instant:
        steps += [Step(StepKind.SERVE), *(Step(StepKind.OVERLAY, target) for target in targets)]
    else:
        steps += [Step(StepKind.WRITE, target) for target in targets]
    if request.verify:
        steps += [Step(StepKind.VERIFY, target) for target in targets]
    if not request.defines:
        return tuple(steps)
    if any(file.role in BOOT_FILES for file in manifest.files):
        steps.append(Step(StepKind.BOOT_FILES))
    if request.memory:
        steps.append(Step(StepKind.MEMORY))
    if request.aside is not None:
        steps += [Step(StepKind.STOP), Step(StepKind.ASIDE)]
    steps.append(Step(StepKind.DEFINE))
    if tracked(request):
        steps.append(Step(StepKind.TRACK))
    if request.start:
        steps.append(Step(StepKind.WAKE if request.memory else StepKind.START))
        steps += _asking(manifest, request)
    if request.instant and request.move:
        steps += [*(Step(StepKind.MOVE, target) for target in targets), Step(StepKind.LET_GO)]
    if request.proves:
        steps.append(Step(StepKind.TAKE_AWAY))
    return tuple(steps)


def _asking(manifest: Manifest, request: Request) -> list[Step]:
    """What is found out of a guest that runs."""
    if manifest.vm.agent:
        return [Step(StepKind.ASK), *(Step(StepKind.GUEST_CHECK, each.name) for each in request.checks or ())]
    return [Step(StepKind.WATCH)] if request.mode is Mode.TEST else []


def tracked(request: Request) -> tuple[str, ...]:
    """Disks of a decided request on which a dirty bitmap counts from before the VM's first start.

    None in a test, which nobody backs up, and none after a salvage, whose disks are not what the point says.
    """
    if request.mode is Mode.TEST or request.salvage:
        return ()
    return tuple(disk.target for disk in request.disks if disk.format == "qcow2" and not disk.device)
