"""What an operator means by a place: a volume and a path in it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from engine.disk_files import FileSystemUnreadable, NoSuchFile, Volume


class Place(Struct, frozen=True):
    """Somewhere in a recovery point."""

    volume: str
    path: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """As it is written on the command line."""
        return f"{self.volume}:/{b'/'.join(self.path).decode(errors='backslashreplace')}"


def find_place(volumes: Sequence[Volume], text: str) -> Place:
    """`vda2:/etc`, `vg0/root:/etc`, a volume alone, or a path on the one volume that it can be on.

    Raises `NoSuchFile` for a volume that is not there or a path that may be on several, `FileSystemUnreadable` for a
    volume that cannot be read.
    """
    names = {volume.name: volume for volume in volumes}
    volume, colon, path = text.partition(":")
    if text in names:
        chosen, path = names[text], "/"
    elif colon and not text.startswith("/"):
        if volume not in names:
            raise NoSuchFile(f"There is no volume {volume}.", next_step=f"name one of these: {_listed(volumes)}.")
        chosen = names[volume]
    elif text.startswith("/"):
        chosen, path = _root(volumes), text
    else:
        raise NoSuchFile(
            f"{text!r} is neither a volume nor a path from / on.",
            next_step=f"write VOLUME:/PATH, with one of these volumes: {_listed(volumes)}.",
        )
    if not chosen.readable:
        raise FileSystemUnreadable(
            f"{chosen.name} has no files that can be read: {chosen.note or chosen.content}.",
            untouched="The recovery point is as it was.",
            next_step="`newhope files POINT` lists the volumes; `newhope restore` brings back whole disks.",
        )
    return Place(chosen.name, tuple(part for part in os.fsencode(path).split(b"/") if part))


def _root(volumes: Sequence[Volume]) -> Volume:
    readable = [volume for volume in volumes if volume.readable]
    roots = [volume for volume in readable if volume.root] or readable
    if len(roots) == 1:
        return roots[0]
    if not roots:
        raise NoSuchFile(
            "No volume of this recovery point has files that can be read.",
            next_step="`newhope files POINT` says why, volume by volume.",
        )
    raise NoSuchFile(
        f"The path may be on any of {len(roots)} volumes: none of them, or several, look like the guest's root.",
        next_step=f"say which: {' or '.join(f'{volume.name}:/PATH' for volume in roots[:8])}.",
    )


def _listed(volumes: Sequence[Volume]) -> str:
    return ", ".join(volume.name for volume in volumes if volume.readable) or "(none can be read)"
