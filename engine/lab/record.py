"""What a lab knows about itself, in `DIR/lab.json`: its presence makes a folder a lab, to be removed as a whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from engine.errors import Conflict, NotFound
from engine.lab.acceleration import Acceleration
from engine.lab.layout import LabFolderUnusable, Layout

LOCK_NAME = "lab.lock"


class Record(Struct, frozen=True):
    """The lab's hosts and guests, and whether making them came to its end."""

    hosts: tuple[str, ...]
    guests: tuple[str, ...]
    acceleration: Acceleration
    complete: bool = False
    """False while `up` makes the lab: what is found so was interrupted, and is thrown away."""
    broken: dict[str, tuple[str, ...]] = {}
    """Hosts that were broken on purpose, each with the VMs that ran there."""


def read(layout: Layout) -> Record | None:
    """The lab's record; None if there is none, or none that this version understands."""
    try:
        return msgspec.json.decode(layout.record_file.read_bytes(), type=Record)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def require(layout: Layout) -> Record:
    """The record of a lab that must be there."""
    record = read(layout)
    if record is None or not record.complete:
        raise NotFound(
            f"There is no lab in {layout.folder}.",
            next_step=f"`newhope lab up --dir {layout.folder}` makes one.",
        )
    return record


def write(layout: Layout, record: Record) -> None:
    """Replace the record, whole or not at all."""
    new = layout.record_file.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    new.replace(layout.record_file)


def require_usable(layout: Layout) -> None:
    """Refuse folders that hold something else than a lab: `down` removes all there is."""
    folder = layout.folder
    if not folder.exists():
        return
    if not folder.is_dir():
        raise LabFolderUnusable(f"{folder} is not a folder.", next_step="Choose another --dir.")
    if folder.stat().st_uid != os.geteuid():
        raise LabFolderUnusable(
            f"The folder {folder} belongs to another user.", next_step="Run as that user, or choose another --dir."
        )
    others = {entry.name for entry in folder.iterdir()} - {LOCK_NAME}
    if others and not layout.record_file.exists():
        raise LabFolderUnusable(
            f"The folder {folder} holds files and is not a lab.",
            next_step="Choose a --dir that is empty or does not exist yet.",
        )


@contextmanager
def exclusive(layout: Layout) -> Generator[None]:
    """Only one process at a time may change a lab; the second is told so at once."""
    layout.folder.mkdir(parents=True, exist_ok=True)
    with (layout.folder / LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Somebody else is changing the lab in {layout.folder} now.",
                next_step="Wait until that command has ended, then try again.",
            ) from None
        yield
