"""What was required of each VM's recovery, and how far it is from that: levels and exposure.

1. A VM gets the first level in the settings one of whose rules is true of it (its name, its host, a tag in its
   definition), else the default level, else none. One that the settings exclude is EXCLUDED, and shown as such.
2. Its exposure is the age of its newest recovery point that can be reached: what would be lost if its host died now.
3. Held against the level's RPO this is OK or LATE; no point at all is NEVER; no level is UNPROTECTED; and what cannot
   be told, because a repository is silent, is UNKNOWN rather than a false alarm.
4. VMs that only recovery points still know are listed too: theirs may be the most urgent ones (their host is dead), or
   they were deleted on purpose (GONE).
5. From the same values follows what is to be backed up now, the worst first, and when the rest will be (`due`), and
   which VMs' points are to be proven (`proofs_due`).

Pure: from values to values, with `now` given. May import: `fleet`, `hosts`, `repository` and `settings`, for their
values. Face: the names below.
"""

from engine.requirements.due import Attempts, Due, DuePlan, Later, LeftOut, attempts_key, plan_due
from engine.requirements.exposure import Exposure, ExposureState, exposures, worst_per_host
from engine.requirements.levels import excluded_by, level_of
from engine.requirements.proofs_due import ProofDue, ProofPlan, plan_proofs
from engine.settings import level_for

__all__ = [
    "Attempts",
    "Due",
    "DuePlan",
    "Exposure",
    "ExposureState",
    "Later",
    "LeftOut",
    "ProofDue",
    "ProofPlan",
    "attempts_key",
    "excluded_by",
    "exposures",
    "level_for",
    "level_of",
    "plan_due",
    "plan_proofs",
    "worst_per_host",
]
