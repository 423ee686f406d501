"""Bring a recovery point back: from a repository to a host of the operator's choice.

1. Plan (`plan.py`, pure): every name, path, UUID and MAC is decided; steps and checks are shown.
2. Preflight (`preflight.py`, pure): PASS, WARN or FAIL, each with evidence and remedy; a FAIL stops everything.
3. Run (`run.py`) exactly what was planned, as a new VM beside the original, which is never touched:
   create the volumes, write the disks, put the boot files beside them, define, start, ask the guest agent.
4. Report (`report.py`): what was done, with times and checks, kept with the repository.

Where data is lost in the repository, a restore stops. On request it brings back what is left (`salvage.py`).

A run that fails or is cancelled undoes what it made, in reverse order: no half-defined VM, no orphan volume.

Imports hosts, repository, nbd, fleet, jobs, settings; knows no libvirt.
"""

from engine.restore.model import MacChoice, NetworkMapping, PlannedStep, Request, RestorePlan, RestoreReport
from engine.restore.plan import lock_of, plan, suggest_name
from engine.restore.run import run

__all__ = [
    "MacChoice",
    "NetworkMapping",
    "PlannedStep",
    "Request",
    "RestorePlan",
    "RestoreReport",
    "lock_of",
    "plan",
    "run",
    "suggest_name",
]
