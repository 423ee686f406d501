"""Where recovery points are kept: blocks named by their content, in packs, in a directory or a bucket.

It knows nothing of libvirt or of disks beyond their bytes. `FORMAT.md` beside this file says what lies where, byte by
byte. One recovery point on its way in and out:

1. A disk is cut into blocks; each is named by its hash. Zero blocks and known ones are not stored (`block_store`).
2. New blocks are compressed and appended to packs, which describe themselves (`block_record`, `pack`).
3. The names, in order, form a tree that is stored as blocks too (`disk_map`).
4. Packs are made durable, then index files over them (`index_file`, `index`), then the manifest (`manifest`): it is the
   only commit, so that a crash at any instant leaves every earlier point whole and nothing half-listed (`writer`).
5. Reading goes the way back and checks every block against its name before handing it out (`reader`).

Who may run beside whom (nothing takes a lock in the storage; objects appear whole and are never overwritten):

    beside            a writer                              a reader
    a writer          yes: own packs, own lease; a block    yes: a reader sees points that were complete
                      both meet may be stored twice         when it listed them
    merging an index  yes: the new file first, the old      yes: superseded files stay for a day
                      ones go a day later
    a process killed  its lease is dead, its unfinished files are unlocked: the next writer removes both; in a bucket
                      there are no unfinished objects, and what was on its way lay in files without a name

Where it lies: `storage` says what is asked of a place, `directory_storage` and `s3_storage` give it, `places` chooses
by the location's text, `probe` finds out whether a place keeps its word.

May import: `engine.errors`. Face: `Repository`, the values of `model`, `select_point` and `parse_point_name`.
"""

from engine.repository.errors import (
    LeaseLost,
    RepositoryDamaged,
    RepositoryError,
    RepositoryMissing,
    RepositoryTooNew,
    StorageFailed,
)
from engine.repository.model import (
    Consistency,
    DamagedObject,
    DataRun,
    DiskRecord,
    FileRecord,
    Manifest,
    Point,
    RepositoryInfo,
    VmFacts,
    WriterLimits,
    WriterStats,
)
from engine.repository.point_names import local_time, parse_point_name, select_point
from engine.repository.probe import PropertyCheck, StorageTest, Verdict, try_storage
from engine.repository.reader import Reader
from engine.repository.repository import Repository
from engine.repository.writer import DiskWriter, Writer

__all__ = [
    "Consistency",
    "DamagedObject",
    "DataRun",
    "DiskRecord",
    "DiskWriter",
    "FileRecord",
    "LeaseLost",
    "Manifest",
    "Point",
    "PropertyCheck",
    "Reader",
    "Repository",
    "RepositoryDamaged",
    "RepositoryError",
    "RepositoryInfo",
    "RepositoryMissing",
    "RepositoryTooNew",
    "StorageFailed",
    "StorageTest",
    "Verdict",
    "VmFacts",
    "Writer",
    "WriterLimits",
    "WriterStats",
    "local_time",
    "parse_point_name",
    "select_point",
    "try_storage",
]
