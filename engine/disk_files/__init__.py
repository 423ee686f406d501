"""Files inside the disks of recovery points, read by a process that may do nothing else.

What a guest wrote is not trusted, and neither are 30,000 lines of parsers fed with it. So the file systems are read in
a process of their own, and this package is both sides of it:

1. Our side starts the process with one end of a socket pair as its only tie to the world (`browsing`). The process
   loads the parsers, then gives up everything: user, files, network, new processes, memory (`confinement`).
2. It asks for ranges of disks over the socket; our side answers from wherever the disks are, block by block, and never
   more than is looked at (`disk_stream`; whoever opens the disks gives one function that reads a range).
3. It finds partitions and LVM volumes, and the file systems in them (`volumes`; `ext4`, `ext4_journal`, `xfs`,
   `btrfs`, `ntfs`, `fat` make one tree of nodes of each, `tree` says what a node is).
4. It answers what volumes there are, what is in a folder, and what is in a file (`protocol`, `serving`). Every answer
   is checked on our side: names, sizes, lengths, order. A wrong one, a crash or a silence ends the process, with an
   error that says so; the next question has a new process, which leaves alone what ended the one before (`browsing`).

The parsers are dissect.* (AGPL-3.0-or-later), an optional extra that only this process loads; newhope is Apache-2.0.
Where dissect takes unwritten or missing blocks for content (XFS, ext2/3) or passes over a journal (ext4), we do not.

May import: `engine.errors`, `engine.file_entry`. Face: `open_disks`, `DiskFiles`, `Volume`, `parsers_version`, and
the errors.
"""

from engine.disk_files.browsing import (
    INSTALL_PARSERS,
    Disk,
    DiskFiles,
    FileSystemUnreadable,
    NoSuchFile,
    open_disks,
    parsers_version,
)
from engine.disk_files.protocol import Volume

__all__ = [
    "INSTALL_PARSERS",
    "Disk",
    "DiskFiles",
    "FileSystemUnreadable",
    "NoSuchFile",
    "Volume",
    "open_disks",
    "parsers_version",
]
