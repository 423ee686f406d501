"""`newhope doctor --repair`: what dead jobs have left on hosts and VMs, and to put it right."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine import backup
from engine.backup import KeptNote, Leftover
from engine.cli import printing
from engine.cli.confirmation import confirm
from engine.cli.doctor_hosts import left_on_each
from engine.cli.documents import of_job, plain
from engine.cli.following import see_to_end
from engine.cli.invocation import Invocation
from engine.cli.leftovers_job import LeftoversJob, launch_repair_of_vm, vms_on_hosts
from engine.cli.table import bad, good
from engine.cli.wording import count
from engine.errors import ExitCode, NewhopeError
from engine.fleet import Fleet
from engine.hosts import HostLanes
from engine.hosts.model import HostStatus
from engine.jobs import Job


class Found(Struct, frozen=True):
    """What was found on all hosts."""

    leftovers: tuple[Leftover, ...]
    unseen: tuple[str, ...]
    """What could not be looked at, in sentences."""
    waiting: tuple[KeptNote, ...]
    """What this machine knows to be left on hosts that do not answer."""

    @property
    def to_do(self) -> tuple[Leftover, ...]:
        """What will be put right."""
        return tuple(each for each in self.leftovers if not each.left_alone)


def repair_vms(invocation: Invocation, *, yes: bool, dry_run: bool) -> ExitCode:
    """Show what was left and what will be done about it; do it, if that is agreed to."""
    found = _look(invocation)
    document = plain(found)
    if not invocation.json:
        _show(found)
    if dry_run or not found.to_do:
        if invocation.json:
            printing.show_json({"repair": document})
        return ExitCode.FINDINGS if found.to_do else ExitCode.OK
    if not yes and not confirm(invocation, f"Put {count(len(found.to_do), 'thing')} right?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    return _carry_out(invocation, found)


def _look(invocation: Invocation) -> Found:
    settings = invocation.settings
    fleet = invocation.fleet()
    leftovers: list[Leftover] = []
    unseen: list[str] = []
    silent: set[str] = set()
    vms = vms_on_hosts(fleet.snapshots)
    with HostLanes(settings) as lanes, invocation.patience("looking what dead jobs have left"):
        for snapshot in fleet.snapshots:
            if snapshot.status is not HostStatus.ONLINE:
                silent.add(snapshot.host)
                unseen.append(f"Host {snapshot.host} does not answer: {snapshot.reason}.")
                continue
            found, hidden = left_on_each(
                snapshot.vms, lambda vm: backup.leftovers_of(lanes[vm.host], vm, settings, fleet)
            )
            leftovers.extend(found)
            unseen.extend(hidden)
        for snapshot in fleet.snapshots if not silent else ():
            try:
                leftovers.extend(backup.leftovers_on_host(lanes[snapshot.host], vms))
            except NewhopeError as error:
                unseen.append(f"The scratch folders of {snapshot.host} could not be looked at: {error.what}")
    unseen.extend(_unread_repositories(fleet))
    waiting = tuple(each for each in backup.kept_notes(settings) if each.host in silent)
    return Found(tuple(leftovers), tuple(unseen), waiting)


def _unread_repositories(fleet: Fleet) -> list[str]:
    return [
        f"Repository {view.name} could not be read, so checkpoints that its points may need were left: {view.reason}"
        for view in fleet.repositories
        if not view.reachable
    ]


def _show(found: Found) -> None:
    number = 0
    for leftover in found.leftovers:
        number += not leftover.left_alone
        mark = "  -" if leftover.left_alone else f"{number:>3}"
        printing.say(f"{mark}  {leftover.where}: {leftover.what}")
        printing.say(f"     {'left alone: ' if leftover.left_alone else ''}{leftover.remedy}")
    for each in found.waiting:
        printing.say(
            f"  -  {each.vm} on {each.host}: {each.note.act.value} by {each.note.owner}, when its host was last seen."
        )
        printing.say(f"     left alone: {each.host} does not answer.")
    for sentence in found.unseen:
        printing.say(f"  ?  {sentence}")
    if not found.leftovers and not found.waiting:
        printing.say("Nothing is left of dead jobs, as far as could be seen." if found.unseen else "Nothing is left.")


def _carry_out(invocation: Invocation, found: Found) -> ExitCode:
    jobs: list[Job] = []
    worst = ExitCode.OK
    refused: list[str] = []
    with invocation.journal() as journal:
        for spec in _by_vm(found.to_do):
            try:
                job = see_to_end(invocation, journal, launch_repair_of_vm(invocation.settings, journal, spec).id)
            except NewhopeError as error:
                refused.append(error.what)
                worst = error.exit_code
                continue
            if job is None:
                return ExitCode.INTERRUPTED
            jobs.append(job)
            worst = ExitCode(job.failure.exit_code) if job.failure is not None else worst
        if invocation.json:
            documents = [of_job(job, journal) for job in jobs]
            printing.show_json({"repair": {**plain(found), "jobs": documents, "refused": refused}})
            return worst
    for job in jobs:
        if job.failure is None:
            printing.say(f"{good('DONE').text}  {job.result}")
        else:
            printing.say(f"{bad('FAILED').text}  {job.failure.what} Next: {job.failure.next_step}")
    for what in refused:
        printing.say(f"{bad('REFUSED').text}  {what}")
    return worst


def _by_vm(leftovers: Sequence[Leftover]) -> list[LeftoversJob]:
    vms = {(each.host, each.vm_uuid): each.vm for each in leftovers}
    return [
        LeftoversJob(host, uuid, name, tuple(each for each in leftovers if (each.host, each.vm_uuid) == (host, uuid)))
        for (host, uuid), name in vms.items()
    ]
