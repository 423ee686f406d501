"""Where recovery points are kept: blocks named by their content, in packs, in a directory or a bucket.

It knows nothing of libvirt or of disks beyond their bytes. `FORMAT.md` beside this file says what lies where, byte by
byte, `SIZES.md` why blocks and indexes are as large as they are. One recovery point on its way in and out:

1. A disk is cut into blocks; each is named by its hash. Zero blocks and known ones are not stored (`block_store`).
2. New blocks are compressed and appended to packs, which describe themselves (`block_record`, `pack`).
3. The names, in order, form a tree that is stored as blocks too (`disk_map`). What did not change since another point
   is taken over from its tree without being read or looked up (`changed_ranges`, `disk_writer`, `parent_map`).
4. Packs are made durable, then index files over them (`index_file`, `index`), then the manifest (`manifest`): it is the
   only commit, so that a crash at any instant leaves every earlier point whole and nothing half-listed (`writer`).
5. Reading goes the way back and checks every block against its name before handing it out (`reader`). Whether all
   blocks of a point are there is looked up without reading them (`presence`).
6. Verifying looks at everything in its own time, oldest-checked first, and names the points and ranges that are hurt
   (`verify`, and the files beside it: `verify_structure`, `verify_pack`, `damage`, `verify_history`).
7. Points are copied to another repository, of any block size, key and storage (`sync`, `copied_blocks`).
8. A policy says which points may go (`retention`), pins and protections which may not (`guards`); what no point needs
   any more is collected (`collection`, which argues why that is safe).
   Where a dirty bitmap turned out to be wrong, which points may have missed a write follows from their records
   (`distrust`).
   A point that is being restored stays, also when it is dropped meanwhile (`held_point`).
9. Files from inside a guest are points of a kind of their own, stored and checked like all others: a listing
   (`guest_listing`), and a disk on which each file begins at a block of its own (`guest_content`).
10. What a verification found is repaired: small objects are healed or set aside, the index is made anew, damaged packs
   are condemned and what is sound in them stored again, lost blocks are fetched from other repositories (`repair`,
   which argues why nothing sound is lost, and the files beside it; `quarantine` keeps the originals).

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
                      it stays until the writer ends        are collected, unless it holds the point, as every
                                                            restore does; of another: yes
    pinning a point   yes                                   yes; beside a drop of the same point: the pin fails, or
                                                            comes first, or is lost with the point in one instant
    a collector       no: `collector` leases exclude each other; one that was taken for dead and wakes finds its lease
    beside another    gone before its next delete, and a delete it had begun is of a pack that stays condemned
    a repair          yes: it adds what a writer could add, yes: it takes away only what cannot be read, after
                      condemns before it copies, and takes  what takes its place is durable
                      away only what writers cannot read
    a repair beside   a collector, or another repair: no, it holds a `collector` lease; a verification: yes, for that
    others            it is a collector, whose doings are looked at twice
    merging an index  yes: the new file first, the old      yes: superseded files stay for a day
                      ones go a day later
    a sync            yes: it is a writer of its target, a    yes: it is a reader of its source; a point that is
                      reader of its source; two of one point  dropped there meanwhile is passed over
                      make the same manifest, once
    removing a key    yes: the master key stays              yes
    removing a key    no: `keys` leases exclude each other, so that the last two keys never go together; adding one
    beside another    needs no lease
    a process killed  its lease is dead, its unfinished files are unlocked: the next writer or collector removes both,
                      a collector what it had announced; a collection, and a repair, is taken up by the next one; in
                      a bucket there are no unfinished objects, and what was on its way lay in files without a name; a
                      request that was sent may still be done, so what it had announced stays for an hour there
    one of another    its lease ends once it was not renewed for as long as it lasts, by the storage's clock, and since
    machine that died an earlier collection; a point it had announced and not listed is forgotten after 30 days
    a clock that is   nothing, in a writer or collector; in the storage a jump ahead may end the lease of a writer that
    wrong             did not renew between two collections, whose backup then fails; a protection ends when the clocks
                      of collector and storage both say so

With credentials that may create and not delete, all of this works except collecting, dropping, unpinning and
repairing: leases then run out instead of being given back, and are cleared by the collector.

An encrypted repository (`keys`; passphrases: `key_slots`, `unlocking`, `recovery_sheet`) hides what is in disks, files,
manifests, guards, records and leases from whoever has its objects and no key. Names of blocks are keyed, so that nobody
can ask whether a known file is there. Whatever is changed, exchanged or invented without the key is refused.

    hidden       contents, names of VMs, hosts, disks and people, facts, reasons, findings, where in a disk data lies
    not hidden   how many points, blocks and packs there are, and how large and when they were made; how well each
                 block compresses (its length before and after), and whether it is data, map or file; uuids of VMs and
                 moments of points (they stand in the objects' keys), kinds and names of records; which packs were
                 written by one writer; names and dates of the passphrases, the block size, the repository's id
    not stopped  deleting objects, bringing back older ones that were deleted, and whoever has had the master key:
                 taking a passphrase away does not change that key

Where it lies: `storage` says what is asked of a place, `directory_storage` and `s3_storage` give it, `places` chooses
by the location's text, `probe` finds out whether a place keeps its word, `limited_storage` slows one down.

May import: `engine.errors`. Face: `Repository`, the values of `model`, `select_point` and `parse_point_name`.
"""

from engine.repository.bandwidth import Limiter
from engine.repository.changed_ranges import BlockRun, ChangedRange, MixedBlock, in_blocks
from engine.repository.collection import Collected, CollectionProgress, Collector
from engine.repository.disk_writer import DiskWriter
from engine.repository.distrust import doubts
from engine.repository.errors import (
    LeaseLost,
    RepositoryDamaged,
    RepositoryError,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryTooNew,
    StorageFailed,
)
from engine.repository.five_volumes import Volume, VolumeKind, five_volumes
from engine.repository.forecast import Forecast
from engine.repository.guards import Guard, GuardKind
from engine.repository.guest_content import ContentShort, GuestContentWriter, read_guest_file, read_listing
from engine.repository.guest_listing import GuestEntry, decode_listing, encode_listing
from engine.repository.key_slots import KeySlot
from engine.repository.lease_holders import LeaseHolder, Life
from engine.repository.master_key import MasterKey, Passphrase, Secret, Unlock
from engine.repository.model import (
    Consistency,
    DamagedObject,
    DataRun,
    DiskRecord,
    FileRecord,
    GuestCommand,
    GuestFiles,
    Manifest,
    Origin,
    Point,
    PointKind,
    RepositoryInfo,
    SnapshotRecord,
    VmFacts,
    WriterLimits,
    WriterStats,
    as_disk,
    as_file,
)
from engine.repository.places import storage_at
from engine.repository.point_names import local_time, of_kind, one_of_each, parse_point_name, select_point
from engine.repository.presence import Presence
from engine.repository.probe import PropertyCheck, StorageTest, Verdict, try_storage
from engine.repository.proofs import (
    GuestCheckResult,
    GuestCheckState,
    Proof,
    ProofMark,
    ProofOutcome,
    ProofVerdict,
    SignsOfLife,
    keep_proof,
    last_proof,
    proof_marks,
    read_proof,
)
from engine.repository.reader import Reader
from engine.repository.repair import Repairer
from engine.repository.repair_identity import (
    IdentityCopy,
    IdentityPlan,
    apply_identity,
    identity_damage,
    plan_identity,
)
from engine.repository.repair_model import (
    DoneRepair,
    LeftAlone,
    Phase,
    Remedy,
    RepairPlan,
    RepairProgress,
    RepairReport,
    RepairRequest,
    RepairStep,
)
from engine.repository.repair_source import Source
from engine.repository.repository import Repository
from engine.repository.retention import Decision, KeepRules, decide
from engine.repository.sync import Sync
from engine.repository.sync_model import (
    Advance,
    ArrivalDamaged,
    Copied,
    PointRefused,
    Refused,
    Synced,
    SyncLimits,
    SyncPlan,
    SyncRequest,
)
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
from engine.repository.verify_state import Soundness, VerificationState, VerifiedLast, VerifiedMark, verified_mark
from engine.repository.writer import Writer

__all__ = [
    "Advance",
    "ArrivalDamaged",
    "BlockRun",
    "ChangedRange",
    "Collected",
    "CollectionProgress",
    "Collector",
    "Consistency",
    "ContentShort",
    "Copied",
    "DamagedObject",
    "DataRun",
    "Decision",
    "DiskLoss",
    "DiskRecord",
    "DiskWriter",
    "DoneRepair",
    "Extent",
    "FileRecord",
    "Finding",
    "Forecast",
    "Guard",
    "GuardKind",
    "GuestCheckResult",
    "GuestCheckState",
    "GuestCommand",
    "GuestContentWriter",
    "GuestEntry",
    "GuestFiles",
    "IdentityCopy",
    "IdentityPlan",
    "KeepRules",
    "KeySlot",
    "LeaseHolder",
    "LeaseLost",
    "LeftAlone",
    "Life",
    "Limiter",
    "Manifest",
    "MasterKey",
    "MixedBlock",
    "Origin",
    "Passphrase",
    "Phase",
    "Point",
    "PointKind",
    "PointName",
    "PointRefused",
    "Presence",
    "Proof",
    "ProofMark",
    "ProofOutcome",
    "ProofVerdict",
    "PropertyCheck",
    "Reader",
    "Refused",
    "Remedy",
    "RepairPlan",
    "RepairProgress",
    "RepairReport",
    "RepairRequest",
    "RepairStep",
    "Repairer",
    "Repository",
    "RepositoryDamaged",
    "RepositoryError",
    "RepositoryInfo",
    "RepositoryLocked",
    "RepositoryMissing",
    "RepositoryTooNew",
    "Secret",
    "Severity",
    "SignsOfLife",
    "SnapshotRecord",
    "Soundness",
    "Source",
    "Stage",
    "StorageFailed",
    "StorageTest",
    "Sync",
    "SyncLimits",
    "SyncPlan",
    "SyncRequest",
    "Synced",
    "Unlock",
    "Verdict",
    "Verification",
    "VerificationState",
    "VerifiedLast",
    "VerifiedMark",
    "Verifier",
    "VerifyLimits",
    "VerifyPlan",
    "VerifyProgress",
    "VerifyRequest",
    "VmFacts",
    "Volume",
    "VolumeKind",
    "Writer",
    "WriterLimits",
    "WriterStats",
    "apply_identity",
    "as_disk",
    "as_file",
    "decide",
    "decode_listing",
    "doubts",
    "encode_listing",
    "five_volumes",
    "identity_damage",
    "in_blocks",
    "keep_proof",
    "last_proof",
    "local_time",
    "of_kind",
    "one_of_each",
    "parse_point_name",
    "plan_identity",
    "proof_marks",
    "read_guest_file",
    "read_listing",
    "read_proof",
    "select_point",
    "storage_at",
    "try_storage",
    "verified_mark",
]
