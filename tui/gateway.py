"""The only door between the screens and the engine.

Threads, all daemons of our own and never Textual's pool (a hung host would use it up, and hold up quitting):

    fleet     asks all hosts and repositories every ten seconds, or when told to; each host has its own lane below
    journal   reads the jobs every second while any runs, every two seconds otherwise
    ask-N     one short question (a plan, a launch) each; its answer goes to whoever awaits it

They post messages that replace older ones of their kind, and touch nothing of a screen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import structs
from textual.message import Message

from engine import backup, fleet, requirements, resilience, restore
from engine.cli.launching import (
    launch_backup,
    launch_get,
    launch_put_back,
    launch_restore,
    launch_resume,
    launch_settlement,
)
from engine.fleet import Fleet
from engine.hosts import HostLanes
from engine.jobs import CancelAnswer, Job, Journal, Knobs, LogLine, operator_name
from engine.point_files import GetRequest
from engine.repository import Point
from engine.requirements import Exposure
from engine.resilience import Finding
from engine.settings.model import Settings
from tui.point_look import PointLook
from tui.viewmodels.problems import Problem, from_error

FLEET_EVERY_S = 10.0
JOURNAL_EVERY_S = 1.0
JOURNAL_IDLE_EVERY_S = 2.0
KEPT_JOBS = 200

Answer = TypeVar("Answer")


class FleetArrived(Message):
    """All hosts and repositories have been asked (or, with `live` False, remembered)."""

    def __init__(
        self, seen: Fleet, exposures: tuple[Exposure, ...], findings: tuple[Finding, ...], *, live: bool
    ) -> None:
        super().__init__()
        self.fleet = seen
        self.exposures = exposures
        self.findings = findings
        self.live = live

    def can_replace(self, message: Message) -> bool:
        """A newer picture makes one that nobody has looked at yet pointless."""
        return isinstance(message, FleetArrived)


class JobsArrived(Message):
    """The journal has something new."""

    def __init__(
        self,
        jobs: tuple[Job, ...],
        watched: int | None,
        log: tuple[LogLine, ...],
        restores: tuple[restore.Entry, ...] = (),
    ) -> None:
        super().__init__()
        self.jobs = jobs
        self.watched = watched
        self.log = log
        self.restores = restores

    def can_replace(self, message: Message) -> bool:
        """Only the newest state of the journal is of interest."""
        return isinstance(message, JobsArrived)


class ProblemArose(Message):
    """Something could not be asked."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class ProblemEnded(Message):
    """What could not be asked is answered again."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class Gateway:
    """Asks the engine in the background for as long as the console is open."""

    def __init__(self, settings: Settings, post: Callable[[Message], object]) -> None:
        self.settings = settings
        self._post = post
        self._stopping = threading.Event()
        self._ask_hosts = threading.Event()
        self._read_journal = threading.Event()
        self._watched: int | None = None
        self._lanes = HostLanes(settings)
        self._journal: Journal | None = None
        self._journal_lock = threading.Lock()

    def start(self) -> None:
        """Begin to ask; what was remembered from the last time is posted first."""
        threading.Thread(target=self._follow_fleet, name="fleet", daemon=True).start()
        threading.Thread(target=self._follow_journal, name="journal", daemon=True).start()

    def stop(self) -> None:
        """Ask nothing more. Threads that hang in a call to a dead host are left to end with the process."""
        self._stopping.set()
        self._ask_hosts.set()
        self._read_journal.set()

    def refetch(self) -> None:
        """Ask the hosts and the journal again now."""
        self._ask_hosts.set()
        self._read_journal.set()

    def watch(self, job_id: int | None) -> None:
        """Read this job's log too."""
        if job_id != self._watched:
            self._watched = job_id
            self._read_journal.set()

    # ------------------------------------------------------------------ following

    def remembered(self) -> FleetArrived | None:
        """The fleet as it was when a console last looked; quick, and asks nobody."""
        seen = fleet.load_cache(self.settings.state)
        return None if seen is None else self._judged(seen, live=False)

    def _judged(self, seen: Fleet, *, live: bool) -> FleetArrived:
        now = datetime.now(UTC)
        exposures = requirements.exposures(self.settings, seen, now)
        return FleetArrived(seen, exposures, resilience.find(self.settings, seen, now), live=live)

    def _follow_fleet(self) -> None:
        previous = fleet.load_cache(self.settings.state)
        while not self._stopping.is_set():
            self._ask_hosts.clear()
            try:
                previous = fleet.gather(self.settings, self._lanes, previous=previous)
                arrived = self._judged(previous, live=True)
                fleet.save_cache(self.settings.state, previous)
            except Exception as error:
                self._post(ProblemArose(from_error(error, "fleet", datetime.now(UTC))))
            else:
                self._tell(arrived)
                self._tell(ProblemEnded("fleet"))
            self._ask_hosts.wait(FLEET_EVERY_S)

    def _follow_journal(self) -> None:
        shown: tuple[tuple[Job, ...], int | None, tuple[LogLine, ...], int] | None = None
        kept = restore.RestoreJournal(self.settings.state)
        while not self._stopping.is_set():
            self._read_journal.clear()
            jobs: tuple[Job, ...] = ()
            try:
                journal = self._open_journal()
                jobs, watched = journal.jobs(limit=KEPT_JOBS), self._watched
                log = () if watched is None else journal.log(watched)
                seen = (jobs, watched, log, kept.version())
                if seen != shown:
                    shown = seen
                    self._tell(JobsArrived(jobs, watched, log, kept.entries()))
                    self._tell(ProblemEnded("journal"))
            except Exception as error:
                self._tell(ProblemArose(from_error(error, "journal", datetime.now(UTC))))
            running = any(not job.state.over for job in jobs)
            self._read_journal.wait(JOURNAL_EVERY_S if running else JOURNAL_IDLE_EVERY_S)

    def _tell(self, message: Message) -> None:
        if not self._stopping.is_set():
            self._post(message)

    def _open_journal(self) -> Journal:
        with self._journal_lock:
            if self._journal is None:
                self._journal = Journal(self.settings.state)
            return self._journal

    # ------------------------------------------------------------------ asking

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """Run a question in a thread of its own and wait for its answer without blocking the console."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()

        def give(value: Answer | None, error: Exception | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            value, failure = None, None
            try:
                value = question()
            except Exception as error:
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(give, value, failure)

        threading.Thread(target=work, name="ask", daemon=True).start()
        return await answer

    async def plan_backup(self, seen: Fleet, request: backup.Request) -> backup.BackupPlan:
        """What this backup would do."""
        return await self.ask(lambda: backup.plan(self.settings, seen, request))

    async def plan_restore(self, seen: Fleet, request: restore.Request) -> restore.RestorePlan:
        """What this restore would do, with every open question decided; host and repository are asked about it."""
        return await self.ask(lambda: self.examine(seen, request))

    def examine(self, seen: Fleet, request: restore.Request) -> restore.RestorePlan:
        """The plan of a restore, with every check made now."""
        rates = restore.load_rates(self.settings.state)
        request = structs.replace(request, operator=operator_name())
        return restore.examined_plan(self.settings, self._lanes, seen, request, rates)

    async def launch_backup(self, request: backup.Request) -> Job:
        """Start it as a job of its own, exactly as `newhope backup` does."""
        return await self._launched(lambda: launch_backup(self.settings, self._open_journal(), request))

    async def launch_restore(self, plan: restore.RestorePlan) -> Job:
        """Start exactly this plan as a job of its own, as `newhope restore` does."""
        return await self._launched(lambda: launch_restore(self.settings, self._open_journal(), plan))

    async def look_into(self, point: Point) -> PointLook:
        """Open a recovery point to look at its files."""
        return await self.ask(lambda: PointLook(self.settings, point))

    def close(self, look: PointLook) -> None:
        """End a look; whoever waits for an answer of it gets an error."""
        threading.Thread(target=look.close, name="close", daemon=True).start()

    async def launch_get(self, request: GetRequest) -> Job:
        """Start to write files to this machine, as a job of its own."""
        return await self._launched(lambda: launch_get(self.settings, self._open_journal(), request))

    async def launch_put_back(self, plan: restore.PutBackPlan) -> Job:
        """Start exactly this plan as a job of its own, as `newhope files --put-back` does."""
        return await self._launched(lambda: launch_put_back(self.settings, self._open_journal(), plan.request))

    async def resume_restore(self, entry: restore.Entry) -> Job:
        """Let an interrupted restore go on, as `newhope restores resume` does."""
        return await self._launched(lambda: launch_resume(self.settings, self._open_journal(), entry))

    async def settle_restore(self, entry: restore.Entry, end: restore.AtEnd) -> Job:
        """Commit or undo a restore, as `newhope restores` does; an original that is aside is never deleted here."""
        wanted = restore.Settlement(entry.id, end)
        return await self._launched(lambda: launch_settlement(self.settings, self._open_journal(), entry, wanted))

    async def _launched(self, start: Callable[[], Job]) -> Job:
        job = await self.ask(start)
        self._read_journal.set()
        return job

    async def turn_knobs(self, job_id: int, change: Callable[[Knobs], Knobs]) -> Job:
        """Say how a job is to run from now on."""
        job = await self.ask(lambda: self._open_journal().turn_knobs(job_id, change))
        self._read_journal.set()
        return job

    async def cancel(self, job_id: int) -> CancelAnswer:
        """Ask a job to stop at its next safe place."""
        answer = await self.ask(lambda: self._open_journal().ask_cancel(job_id))
        self._read_journal.set()
        return answer
