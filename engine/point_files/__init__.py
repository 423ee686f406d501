"""The files in a recovery point, whatever kind it is of, without restoring it: look, get, and what is to be put back.

1. `opening` opens a point: its volumes, and the files on each. The disks of a VM have volumes, which a process of its
   own looks into (`engine.disk_files`, here `disk_volume`); a point of guest files has one, without a name (`guest`).
2. `tree` says what can be asked of the files on a volume: what is at a path, what is in a folder, what is in a file.
3. `place` finds what an operator means by `vda2:/etc`, `vg0/root:/etc`, or `/etc` alone.
4. `writing` writes a file or a whole folder to this machine: nothing is overwritten unasked, no symlink is followed
   and no name leads out of the folder that was asked for, whatever the guest called its files.
5. `getting` does that as a job, for the console.

Names and links were chosen by a guest; nobody here follows a link on this machine (`engine.file_entry`).
Imports disk_files, repository, jobs and fleet. Face: `open_files`, `find_place`, `write`, `below`, `get`, and what they
take and give.
"""

from engine.point_files.getting import GetRequest, get, refuse_taken_place
from engine.point_files.opening import OpenedFiles, has_disks, open_files
from engine.point_files.place import Place, find_place, plain_path
from engine.point_files.tree import Children, Piece, PointFiles, below, size_of
from engine.point_files.writing import LeftOut, LostRange, NotWritten, Progress, Written, destination_for, write

__all__ = [
    "Children",
    "GetRequest",
    "LeftOut",
    "LostRange",
    "NotWritten",
    "OpenedFiles",
    "Piece",
    "Place",
    "PointFiles",
    "Progress",
    "Written",
    "below",
    "destination_for",
    "find_place",
    "get",
    "has_disks",
    "open_files",
    "plain_path",
    "refuse_taken_place",
    "size_of",
    "write",
]
