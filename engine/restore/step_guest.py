"""The guest, once it runs: its agent is asked; in a test, the checks of its level are run, or it is watched."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.fleet import open_repository
from engine.hosts import agent, power
from engine.hosts.errors import GuestDidNotAnswer
from engine.hosts.model import VmState
from engine.hosts.signs_of_life import Vitals, vitals
from engine.jobs import StepHandle
from engine.repository import GuestCheckState, SignsOfLife
from engine.restore import point_server
from engine.restore.guest_checks import ask_guest, never_asked
from engine.restore.model import Mode
from engine.restore.steps import Step
from engine.restore.work import Work
from engine.settings import find_repository

AGENT_TIMEOUT_S = 300.0
_LOOK_S = 1.0


class ProofCutOff(NewhopeError):
    """A proof lost what its guest ran on, and so says nothing."""

    exit_code = ExitCode.FAILED


def ask(work: Work, step: Step, handle: StepHandle) -> str:
    """Wait for its guest agent. A silent one is a warning: the VM is whole, and stays."""
    began, before = time.monotonic(), _vitals_in_a_test(work)
    try:
        waited_s = agent.wait_until_answering(work.lane, work.request.new_uuid, timeout_s=AGENT_TIMEOUT_S)
    except GuestDidNotAnswer as silent:
        _refuse_without_server(work)
        if before is not None:
            after = vitals(work.lane, work.request.new_uuid)
            _note_seen(work, before, after, time.monotonic() - began)
            _tell_unread(work)
        if power.vm_state(work.lane, work.request.new_uuid) in (VmState.OFF, VmState.CRASHED):
            work.warn(_went_off(work))
            return "it went off"
        kept = "" if work.request.proves else " It runs and was kept."
        work.warn(f"{silent.what}{kept} {silent.next_step}")
        return "silent"
    answered_s = round(waited_s, 1)
    work.note(lambda entry: structs.replace(entry, agent_answered_s=answered_s, up=datetime.now(UTC)))
    work.context.log(f"its guest agent answered after {waited_s:.1f} s")
    return f"answered after {waited_s:.1f} s"


def _went_off(work: Work) -> str:
    name, host = work.request.name, work.request.to_host
    kept = "" if work.request.proves else " It was kept, off, and its disks are whole."
    return (
        f"{name} went off while its agent was asked.{kept} Look at QEMU's log on {host}"
        f" (/var/log/libvirt/qemu/{name}.log) and at its console{'' if work.request.proves else ', then start it'}."
    )


def check(work: Work, step: Step, handle: StepHandle) -> str:
    """Run one check of its level. One that fails is a warning here, and decides what the test proves."""
    asked = next(each for each in work.request.checks or () if each.name == step.of)
    if work.entry.agent_answered_s is None:
        result = never_asked(asked, "its guest agent did not answer")
    else:
        moment = work.point.manifest.moment
        result = ask_guest(work.lane, work.request.new_uuid, asked, moment, work.context.raise_if_cancelled)
    if result.state is not GuestCheckState.PASSED:
        _refuse_without_server(work)
    others = tuple(each for each in work.entry.guest_checks if each.name != asked.name)
    work.note(lambda entry: structs.replace(entry, guest_checks=(*others, result)))
    if result.state is not GuestCheckState.PASSED:
        work.warn(f'The check "{result.name}" {result.state.value}: {result.evidence}.')
    return f"{result.state.value}: {result.evidence}"


def watch(work: Work, step: Step, handle: StepHandle) -> str:
    """Look for a while whether it keeps running, and what it does."""
    uuid = work.request.new_uuid
    began, before = time.monotonic(), vitals(work.lane, uuid)
    last = now = before
    while now.state is VmState.RUNNING and time.monotonic() - began < work.request.watch_s:
        work.context.raise_if_cancelled()
        time.sleep(_LOOK_S)
        last, now = now, vitals(work.lane, uuid)
    # One that is off has no counters any more: what it had done a moment before is what is known.
    after = now if now.state is VmState.RUNNING else structs.replace(last, state=now.state)
    _refuse_without_server(work)
    seen = _note_seen(work, before, after, time.monotonic() - began)
    if not seen.running:
        work.warn(f"It did not keep running: {seen}.")
        _tell_unread(work)
    return str(seen)


def _refuse_without_server(work: Work) -> None:
    """A guest that lost its server, or the repository behind it, says nothing of its point. Raises a NewhopeError."""
    if not work.request.instant or work.request.move:
        return
    if not point_server.look(work.journal, work.entry.id).runs:
        raise ProofCutOff(
            f"The process that served the recovery point to {work.request.name} ended before its guest was well.",
            untouched="The recovery point is as it was, and nothing was said of it.",
            next_step="prove it again.",
        )
    with open_repository(find_repository(work.settings, work.request.repository)) as repository:
        repository.point(work.request.vm_uuid, work.request.point_id)


def _tell_unread(work: Work) -> None:
    """What could not be read of the point, which stops a guest that runs over it."""
    if work.request.instant:
        for line in point_server.look(work.journal, work.entry.id).said:
            work.warn(f"The server of the recovery point said: {line}")


def _vitals_in_a_test(work: Work) -> Vitals | None:
    return vitals(work.lane, work.request.new_uuid) if work.request.mode is Mode.TEST else None


def _note_seen(work: Work, before: Vitals, after: Vitals, ran_s: float) -> SignsOfLife:
    seen = SignsOfLife(
        ran_s=round(ran_s, 1),
        running=after.state is VmState.RUNNING,
        cpu_s=round(after.cpu_s, 1),
        disk_read_bytes=after.disk_read_bytes,
        disk_written_bytes=after.disk_written_bytes,
        screen_changed=before.screen != after.screen if before.screen and after.screen else None,
    )
    work.note(lambda entry: structs.replace(entry, seen=seen))
    return seen
