"""Jobs: whatever takes longer than a keystroke, in a process of its own that outlives whoever asked for it.

1. `launch` writes the job into the journal (SQLite in the state folder), QUEUED, and starts a detached
   process. A job may hold a lock, `vm:UUID` say; while it lives, a second job of that lock is refused with
   the name of the first.
2. In that process, `run` makes it RUN and calls the work with a `JobContext`: steps, bytes, log lines, and
   whether to stop. A pulse thread writes them down, at most four times a second.
3. The work ends as DONE or WARN with a sentence, as FAIL with the three sentences of its error, or as
   CANCELLED.
4. Everyone else only reads: `Journal.jobs`, `Journal.job`, `Journal.log`, `follow`. A reader who finds that a
   job's process is gone (its number, start time and the machine's boot id are known) writes the last word
   itself: LOST.
5. `Journal.ask_cancel` writes the wish down; the work stops at its next clean place.
6. `Journal.turn_knobs` writes down how a job is to go on (`knobs`): paused, how fast, before whom, with how many
   streams. Work that has knobs asks its `Pace` before every piece (`pace`), and obeys within a second or two.

The last 1000 jobs are kept. Nothing in the journal is needed for a restore. Locking table: see `store`.
May import: `errors`, `settings` (rates as people write them); `pace`, which is not part of the face, also the limiter
of `repository`. Face: `Journal`, `launch`, `take_handed`, `run`, `follow`, `JobContext`, `StepHandle`, `JobResult`,
`Cancelled`, `CancelAnswer`, `RateMeter`, the values of `knobs` and `model`, and the journal's errors.
"""

from engine.jobs.context import Cancelled, JobContext, StepHandle
from engine.jobs.following import follow
from engine.jobs.handing import take_handed
from engine.jobs.journal import KEPT_JOBS, CancelAnswer, Journal, operator_name
from engine.jobs.knobs import MOST_STREAMS, KnobChange, Knobs, Priority, in_words
from engine.jobs.launching import LaunchFailed, launch
from engine.jobs.model import Failure, Job, JobState, LogLine, Step, StepState
from engine.jobs.rates import RateMeter
from engine.jobs.running import JobResult, run
from engine.jobs.store import JournalBusy, JournalFull, JournalUnusable

__all__ = [
    "KEPT_JOBS",
    "MOST_STREAMS",
    "CancelAnswer",
    "Cancelled",
    "Failure",
    "Job",
    "JobContext",
    "JobResult",
    "JobState",
    "Journal",
    "JournalBusy",
    "JournalFull",
    "JournalUnusable",
    "KnobChange",
    "Knobs",
    "LaunchFailed",
    "LogLine",
    "Priority",
    "RateMeter",
    "Step",
    "StepHandle",
    "StepState",
    "follow",
    "in_words",
    "launch",
    "operator_name",
    "run",
    "take_handed",
]
