"""The shapes of `--json`, kept stable: every document is an object whose first key names what it holds.

    hosts    {"hosts": [HostSnapshot]}                       engine.hosts.model
    vms      {"vms": [Vm + "protection": Exposure | null],   engine.hosts.model, engine.requirements
              "unseen": [Exposure]}                          VMs that only recovery points know
    points   {"points": [Point + "vm", "size_bytes",         engine.repository.model; show: {"point": Point + ...,
              "volumes": [Volume],                       "copies": [names of repositories]}
              "proof": ProofMark | null,
              "verified": VerifiedMark]}
    repo     {"repository": RepositoryInfo}                 info: and "verification": VerificationState, "guarded": 3
                                                            verify: {"verification": Verification}, --dry-run:
                                                            {"plan": VerifyPlan}; {"job": Job} when it came to no
                                                            result, or with --detach; so does prune
                                                            prune: {"prune": {"repository", "points": [vm, vm_uuid, id,
                                                            moment, keep, reasons], "forecast": Forecast}}, and once it
                                                            is done "dropped": 3, "collected": Collected
                                                            init adds "encrypted", info "keys": [KeySlot] as well
                                                            key list: {"keys": [KeySlot]}; add: {"key": KeySlot}
                                                            key remove: {"removed", "left", "useless_source"}
                                                            key export: {"sheet": {"text"} or {"file"}}
                                                            repair: {"repair": {"plan": RepairPlan}}, and once it is
                                                            done "report": RepairReport
                                                            pin, protect: {"guard": Guard}
                                                            unpin: {"unpinned": {"vm", "id", "pins"}}
                                                            unlock: {"leases": [LeaseHolder], "ended": [id]}
                                                            sync: --dry-run: {"plan": SyncPlan, its points as vm,
                                                            vm_uuid, id, moment, size_bytes}; otherwise {"job": Job}
                                                            test-storage: {"storage": StorageTest, "fit": true}
    files    {"files": [path, kind, mode, uid, gid, owner, group, changed, size_bytes, target], "point": id}; with --get
             {"got": {"destination", "files", "size_bytes", "left_out"}}; --put-back --dry-run: {"plan": PutBackPlan},
             otherwise {"job": Job}
    check    {"findings": [Finding], "fail": 1, "warn": 2, "ok": 30, "unknown": 0}
    jobs     {"jobs": [Job]}; show: {"job": Job, "log": [LogLine]}; follow: one {"job": Job} a line; set: {"job": Job}
    restores {"restores": [Entry + "state"]}                 engine.restore.journal; show: {"restore": Entry + "state",
                                                            "hanging": Hanging | null}; the original's definition is
                                                            left out
                                                            resume, undo, commit: {"job": Job}
    prove    {"proof": Proof + "outcome"}; --dry-run: {"plan": RestorePlan}; {"job": Job} where it came to no proof;
             --due: {"job": Job}; --due --dry-run, or when nothing is: {"due": [ProofDue], "later": [Later],
             "left_out": [LeftOut]}
    serve    {"serving": {"vm", "point", "repository", "disks": [{"target", "size_bytes", "uri"}]}}, once it can be read
    doctor   {"needs": [PackageCheck], "hosts": [HostCheck], "leftovers": [Leftover], "unseen": [sentence], "hanging":
             [sentence]}; --repair: {"repair": {"leftovers": [Leftover], "unseen": [sentence], "waiting": [KeptNote]}},
             and once it is done "jobs": [Job], "refused": [sentence]
    backup, restore   --dry-run: {"plan": ...}; otherwise {"job": Job} when it is over (or launched, with --detach)
             backup --due --dry-run, or when nothing is: {"due": [Due], "later": [Later], "left_out": [LeftOut]}
    errors   {"error": {"what", "untouched", "next_step", "exit_code", "name"}}

Times are UTC in ISO 8601, sizes and durations carry their unit in the key. New keys may come; none changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.jobs import Job, Journal
from engine.repository import Point, five_volumes

if TYPE_CHECKING:
    from engine.restore import Entry

Document = dict[str, Any]


def plain(value: object) -> Document:
    """A struct as the object that JSON shows."""
    return msgspec.to_builtins(value, builtin_types=(), enc_hook=str)


def of_point(point: Point, doubted: Mapping[str, str]) -> Document:
    """A recovery point; its five volumes, `vm`, `size_bytes` (what a restore writes) and `doubt` come with it."""
    return {
        "vm": point.manifest.vm.name,
        "size_bytes": point.size_bytes,
        "volumes": [plain(volume) for volume in five_volumes(point.manifest)],
        "doubt": doubted.get(point.original_id),
        **plain(point),
    }


def of_restore(entry: Entry, state: str) -> Document:
    """A restore's journal; the original's definition may hold passwords, and is left out."""
    document = plain(entry)
    if entry.original is not None:
        document["original"] = {"name": entry.original.name, "uuid": entry.original.uuid}
    return {"state": state, **document}


def of_job(job: Job, journal: Journal) -> Document:
    """A job; its specification is shown as the request that it is."""
    document = plain(job)
    del document["spec"]
    try:
        document["request"] = msgspec.json.decode(job.spec)
    except msgspec.DecodeError:
        document["request"] = None
    document["done_bytes"] = job.done_bytes
    document["total_bytes"] = job.total_bytes
    document["output_file"] = str(journal.output_file(job.id))
    return document
