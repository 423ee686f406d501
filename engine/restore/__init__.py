"""Bring a recovery point back: from a repository to a host of the operator's choice.

1. Plan (`plan.py`, pure): every name, path, UUID and MAC is decided (`decide.py`); steps (`steps.py`) and checks
   (`preflight.py`, `preflight_*.py`) are shown, with bytes, expected times (`rates.py`), and how each step is undone.
   What checks need beyond the fleet is asked (`evidence.py`, `examine.py`); what is dangerous is accepted by name
   (`acceptance.py`).
2. Run (`run.py`) exactly what was planned, each step journaled before and after (`journal.py`, `host_note.py`):
   names reserved, disks written side by side, boot files beside them, the original put aside if its place is taken,
   the VM defined and given its TPM state and secrets (`host_state.py`), its dirty bitmaps begun, started, its agent
   asked (`step_*.py`; `carrying_out.py` has them all).
3. A run that fails or is cancelled undoes what it made, in reverse order (`undoing.py`). One that is killed, or loses
   its host or repository, is resumed or undone: disks half written are read and recognised (`recognised.py`).
   An instant restore starts its VM over the point as a process of its own serves it (`point_server.py`), and moves the
   disks to their place while it runs (`step_instant.py`); from that start on nothing is undone by itself.
4. Whole, a restore is committed, or kept until somebody commits or undoes it (`settle.py`), or its time is over.
5. Report (`report.py`): who, why, what, with times, checks and hashes, kept with the repository; of a test, what it
   proves of its point (`proof.py`): its guest is asked (`step_guest.py`) for what its level says (`guest_checks.py`).

Files by themselves are another way (`engine.point_files`); back into a running guest they go here (`put_back.py`).
Without any restore, other programs read a point's disks over NBD (`serving.py`, `served_disk.py`).

Where data is lost in the repository, a restore stops. On request it brings back what is left (`salvage.py`).

Imports hosts, repository, nbd, point_files, fleet, jobs, settings; knows no libvirt.
"""

from engine.restore.acceptance import accepting, open_warnings, refuse_names, refuse_open, with_accepted
from engine.restore.decide import hosts_by_fitness, suggest_name
from engine.restore.evidence import Evidence
from engine.restore.examine import examined_plan
from engine.restore.hanging import GuestNow, Hanging, hanging, hangs
from engine.restore.journal import Entry, Phase, RestoreJournal
from engine.restore.model import (
    WATCH_S,
    Aside,
    AtEnd,
    DiskTarget,
    MacChoice,
    Mode,
    NetworkMapping,
    PlannedStep,
    Request,
    RestorePlan,
    RestoreReport,
    UuidChoice,
)
from engine.restore.plan import lock_of, plan
from engine.restore.proof import NotProven
from engine.restore.proof_place import NoPlaceForProof, as_proof, place_proof
from engine.restore.put_back import (
    PutBackPlan,
    PutBackReport,
    PutBackRequest,
    lock_of_put_back,
    own_place,
    plan_put_back,
    put_back,
    suffix_now,
)
from engine.restore.rates import load_rates
from engine.restore.run import run, usual_streams
from engine.restore.settle import Settlement, abandoned, adopt, disks_of_original, overdue, refuse, settle
from engine.restore.standing import Standing, commit_means, standing, undo_means

__all__ = [
    "WATCH_S",
    "Aside",
    "AtEnd",
    "DiskTarget",
    "Entry",
    "Evidence",
    "GuestNow",
    "Hanging",
    "MacChoice",
    "Mode",
    "NetworkMapping",
    "NoPlaceForProof",
    "NotProven",
    "Phase",
    "PlannedStep",
    "PutBackPlan",
    "PutBackReport",
    "PutBackRequest",
    "Request",
    "RestoreJournal",
    "RestorePlan",
    "RestoreReport",
    "Settlement",
    "Standing",
    "UuidChoice",
    "abandoned",
    "accepting",
    "adopt",
    "as_proof",
    "commit_means",
    "disks_of_original",
    "examined_plan",
    "hanging",
    "hangs",
    "hosts_by_fitness",
    "load_rates",
    "lock_of",
    "lock_of_put_back",
    "open_warnings",
    "overdue",
    "own_place",
    "place_proof",
    "plan",
    "plan_put_back",
    "put_back",
    "refuse",
    "refuse_names",
    "refuse_open",
    "run",
    "settle",
    "standing",
    "suffix_now",
    "suggest_name",
    "undo_means",
    "usual_streams",
    "with_accepted",
]
