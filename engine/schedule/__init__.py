"""When newhope works by itself: systemd timers and services, or a line for cron where there is no systemd.

1. `plan_units` says which files there will be and what is in them: a service and a timer for the backups that are due,
   for the proofs that are due if a level asks for any, and, where asked for, for verifying and pruning. Pure, so that
   all can be read before anything is written.
2. `installing` writes them, has systemd read them and starts the timers; what fails is taken back. Files of these names
   that were not written here are never touched.
3. A run that was missed is caught up: the timers are persistent, and what is due follows from the recovery points alone
   (`requirements.due`), not from what ran before.

A backup's job outlives the service that started it (`KillMode=process`), so that a long one does not keep the timer
from looking again: runs may overlap. What came of a run that failed is heard by the next look, whose exit status says
so.

Imports settings.
"""

from engine.schedule.installing import Installed, NoSystemd, Systemd, install, remove, state_of
from engine.schedule.units import Choice, Unit, UnitKind, Unsuitable, cron_lines, every_for, plan_units, prove_every_for

__all__ = [
    "Choice",
    "Installed",
    "NoSystemd",
    "Systemd",
    "Unit",
    "UnitKind",
    "Unsuitable",
    "cron_lines",
    "every_for",
    "install",
    "plan_units",
    "prove_every_for",
    "remove",
    "state_of",
]
