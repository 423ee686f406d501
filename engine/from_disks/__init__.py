"""Single files out of the disks of a recovery point, without restoring it.

1. `source` opens the point's disks: a process of its own looks into them (`engine.disk_files`).
2. `place` finds what an operator means by `vda2:/etc`, `vg0/root:/etc`, or `/etc` alone.
3. `extract` writes a file or a whole folder to this machine: nothing is overwritten unasked, no symlink is followed
   and no name leads out of the folder that was asked for, whatever the guest called its files.

Points of guest files are read by `engine.restore.point_files`. Imports disk_files and repository.
Face: `open_files`, `find_place`, `extract`.
"""

from engine.from_disks.extract import Extracted, LeftOut, LostRange, extract
from engine.from_disks.place import Place, find_place
from engine.from_disks.source import open_files, printable

__all__ = [
    "Extracted",
    "LeftOut",
    "LostRange",
    "Place",
    "extract",
    "find_place",
    "open_files",
    "printable",
]
