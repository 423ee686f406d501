"""Where recovery points are kept: blocks named by their content, in packs, in a directory or a bucket.

It knows nothing of libvirt or of disks beyond their bytes. `FORMAT.md` beside this file says what lies where, byte by
byte, `SIZES.md` why blocks and indexes are as large as they are. One recovery point on its way in and out:

1. A disk is cut into blocks; each is named by its hash. Zero blocks and known ones are not stored (`block_store`).
2. New blocks are compressed and appended to packs, which describe themselves (`block_record`, `pack`).
3. The names, in order, form a tree that is stored as blocks too (`disk_map`). What did not change since another point
   is taken over from its tree without being read or looked up (`changed_ranges`, `disk_writer`, `parent_map`).
4. Packs are made durable, then index files over them (`index_file`, `index`), then the manifest (`manifest`): it is the
   only commit, so that a crash at any instant leaves every earlier point whole and nothing half-listed (`writer`).
5. Reading goes the way back and checks every block against its name before handing it out (`reader`).
6. Verifying looks at everything in its own time, oldest-checked first, and names the points and ranges that are hurt
   (`verify`, and the files beside it: `verify_structure`, `verify_pack`, `damage`, `verify_history`).
7. A policy says which points may go (`retention`), pins and protections which may not (`guards`); what no point needs
   any more is collected (`collection`, which argues why that is safe).

Who may run beside whom (nothing takes a lock in the storage; objects appear whole and are never overwritten):

    beside            a writer                              a reader
    a writer          yes: own packs, own lease; a block    yes: a reader sees points that were complete
                      both meet may be stored twice         when it listed them
    verifying         yes: points are listed before         yes: it is a reader that also creates records of
                      index files, these before packs       its own
    a collector       yes: one that has begun is waited     yes: what it needs is copied before its pack goes,
                      for before a pack is deleted that     and found anew by a look at the index
                      it may lean on; one that begins
                      does not lean on condemned packs
    dropping a point  yes: what a writer takes over from    of that point: it stops with an error once blocks
                      it stays until the writer ends        are collected; of another: yes
    pinning a point   yes                                   yes; beside a drop of the same point: the pin fails, or
                                                            comes first, or is lost with the point in one instant
    a collector       no: `collector` leases exclude each other; one that was taken for dead and wakes finds its lease
    beside another    gone before its next delete, and a delete it had begun is of a pack that stays condemned
    merging an index  yes: the new file first, the old      yes: superseded files stay for a day
                      ones go a day later
    a process killed  its lease is dead, its unfinished files are unlocked: the next writer or collector removes both,
                      a collector what it had announced; a collection is taken up by the next one; in a bucket
                      there are no unfinished objects, and what was on its way lay in files without a name

With credentials that may create and not delete, all of this works except collecting, dropping and unpinning: leases
then run out instead of being given back, and are cleared by the collector.

Where it lies: `storage` says what is asked of a place, `directory_storage` and `s3_storage` give it, `places` chooses
by the location's text, `probe` finds out whether a place keeps its word.

May import: `engine.errors`. Face: `Repository`, the values of `model`, `select_point` and `parse_point_name`.
"""

from engine.repository.changed_ranges import BlockRun, ChangedRange, MixedBlock, in_blocks
from engine.repository.collection import Collected, Collector
from engine.repository.disk_writer import DiskWriter
from engine.repository.errors import (
    LeaseLost,
    RepositoryDamaged,
    RepositoryError,
    RepositoryMissing,
    RepositoryTooNew,
    StorageFailed,
)
from engine.repository.forecast import Forecast
from engine.repository.guards import Guard, GuardKind
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
from engine.repository.retention import Decision, KeepRules, decide
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
from engine.repository.writer import Writer

__all__ = [
    "BlockRun",
    "ChangedRange",
    "Collected",
    "Collector",
    "Consistency",
    "DamagedObject",
    "DataRun",
    "Decision",
    "DiskLoss",
    "DiskRecord",
    "DiskWriter",
    "Extent",
    "FileRecord",
    "Finding",
    "Forecast",
    "Guard",
    "GuardKind",
    "KeepRules",
    "LeaseLost",
    "Manifest",
    "MixedBlock",
    "Point",
    "PointName",
    "PropertyCheck",
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
    "StorageTest",
    "Verdict",
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
    "decide",
    "in_blocks",
    "local_time",
    "parse_point_name",
    "select_point",
    "try_storage",
]
