"""What an operator means by a place: a volume and a path in it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.disk_files import FileSystemUnreadable, NoSuchFile, Volume
from engine.errors import NotFound
from engine.file_entry import is_plain, shown


class Place(Struct, frozen=True):
    """Somewhere in a recovery point."""

    volume: str
    """Empty for a point of guest files."""
    path: bytes

    @property
    def text(self) -> str:
        """As it is written on the command line."""
        return f"{self.volume}:/{shown(self.path)}" if self.volume else f"/{shown(self.path)}"


def find_place(volumes: Sequence[Volume], text: str) -> Place:
    """`vda2:/etc`, `vg0/root:/etc`, a volume alone, or a path on the one volume that it can be on.

    Raises `NoSuchFile` for a volume that is not there or a path that may be on several, `FileSystemUnreadable` for a
    volume that cannot be read, `NotFound` for what is no path.
    """
    names = {volume.name: volume for volume in volumes}
    if "" in names:
        return Place("", plain_path(text))
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
            f"{chosen.name} has no files that can be read: {shown(chosen.note or chosen.content)}.",
            untouched="The recovery point is as it was.",
            next_step="`newhope files POINT` lists the volumes; `newhope restore` brings back whole disks.",
        )
    return Place(chosen.name, plain_path(path))


def plain_path(text: str) -> bytes:
    """A path as an operator writes it, as those of entries are: `/etc/` and `etc` are the same. Raises NotFound."""
    parts = [part for part in text.encode(errors="surrogateescape").split(b"/") if part not in (b"", b".")]
    path = b"/".join(parts)
    if parts and not is_plain(path):
        raise NotFound(f"{text!r} is no plain path.", next_step="Write it from the root on, without ..: /etc/hosts.")
    return path


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
