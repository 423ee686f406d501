"""Where recovery points are kept: blocks named by their content, in packs, in a directory.

It knows nothing of libvirt or of disks beyond their bytes. `FORMAT.md` beside this file says what lies where, byte by
byte. One recovery point on its way in and out:

1. A disk is cut into blocks; each is named by its hash. Zero blocks and known ones are not stored (`block_store`).
2. New blocks are compressed and appended to packs, which describe themselves (`block_record`, `pack`).
3. The names, in order, form a tree that is stored as blocks too (`disk_map`).
4. Packs are made durable, then index files over them (`index_file`, `index`), then the manifest (`manifest`): it is the
   only commit, so that a crash at any instant leaves every earlier point whole and nothing half-listed (`writer`).
5. Reading goes the way back and checks every block against its name before handing it out (`reader`).
6. Verifying looks at everything in its own time, oldest-checked first, and names the points and ranges that are hurt
   (`verify`, and the files beside it: `verify_structure`, `verify_pack`, `damage`, `verify_history`).

Who may run beside whom (nothing takes a lock in the storage; objects appear whole and are never overwritten):

    beside            a writer                              a reader
    a writer          yes: own packs, own lease; a block    yes: a reader sees points that were complete
                      both meet may be stored twice         when it listed them
    verifying         yes: points are listed before       yes: it is a reader that also creates records of
                      index files, these before packs       its own
    merging an index  yes: the new file first, the old      yes: superseded files stay for a day
                      ones go a day later
    a process killed  its lease is dead, its unfinished files are unlocked: the next writer removes both

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
from engine.repository.reader import Reader
from engine.repository.repository import Repository
from engine.repository.verify import Verifier
from engine.repository.verify_model import (
    DiskLoss,
    Extent,
    Finding,
    PointName,
    Severity,
    Stage,
    Verification,
    VerifyLimits,
    VerifyPlan,
    VerifyProgress,
    VerifyRequest,
)
from engine.repository.writer import DiskWriter, Writer

__all__ = [
    "Consistency",
    "DamagedObject",
    "DataRun",
    "DiskLoss",
    "DiskRecord",
    "DiskWriter",
    "Extent",
    "FileRecord",
    "Finding",
    "LeaseLost",
    "Manifest",
    "Point",
    "PointName",
    "Reader",
    "Repository",
    "RepositoryDamaged",
    "RepositoryError",
    "RepositoryInfo",
    "RepositoryMissing",
    "RepositoryTooNew",
    "Severity",
    "Stage",
    "StorageFailed",
    "Verification",
    "Verifier",
    "VerifyLimits",
    "VerifyPlan",
    "VerifyProgress",
    "VerifyRequest",
    "VmFacts",
    "Writer",
    "WriterLimits",
    "WriterStats",
    "local_time",
    "parse_point_name",
    "select_point",
]
