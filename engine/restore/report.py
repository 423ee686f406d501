"""A restore's report: what it is made of, as people read it, and where it is kept."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from engine.errors import Conflict
from engine.fleet import FitnessCheck
from engine.jobs import in_words
from engine.repository import Repository
from engine.restore.journal import Entry
from engine.restore.model import DoneStep, LevelAchieved, Mode, RestoreReport
from engine.restore.plan import command_of
from engine.restore.proof import proof_of
from engine.restore.salvage import warning
from engine.restore.work import Work
from engine.settings import Settings, format_duration, level_for

_MIB = 1024**2
KIND = "restores"


def report_of(work: Work) -> RestoreReport:
    """What came of a restore, from its journal and its recovery point."""
    manifest, request, entry = work.point.manifest, work.request, work.entry
    finished = entry.finished or datetime.now(UTC)
    return RestoreReport(
        vm=manifest.vm.name,
        restored_as=request.name,
        uuid=request.new_uuid,
        host=request.to_host,
        point=work.point.id,
        moment=manifest.moment,
        started=entry.created,
        finished=finished,
        operator=request.operator,
        steps=tuple(
            DoneStep(mark.title, round((mark.done - mark.begun).total_seconds(), 3), mark.note)
            for mark in entry.marks
            if mark.done is not None
        ),
        checks=entry.checks,
        size_bytes=work.point.size_bytes,
        agent_answered_s=entry.agent_answered_s,
        command=command_of(work.point, request),
        accepted=request.accepted,
        warnings=(*((warning(entry.lost),) if entry.lost else ()), *entry.warnings),
        lost=entry.lost,
        id=entry.id,
        repository=request.repository,
        mode=request.mode,
        reason=request.reason,
        ticket=request.ticket,
        disks=entry.disks,
        level=_level(work.settings, work),
        downtime_s=_downtime_s(entry),
        resumed=entry.resumed,
        keep_until=entry.keep_until,
        at_end=request.at_end,
        knobs=entry.knobs,
        proof=proof_of(entry, work.point),
    )


def keep_report(repository: Repository, report: RestoreReport) -> None:
    """Put it into the repository, for programs and for people; one that is there already is fine."""
    name = f"{report.started:%Y%m%dT%H%M%SZ}-{report.id}"
    for content, ending in ((msgspec.json.encode(report), "json"), (as_markdown(report).encode(), "md")):
        try:
            repository.put_record(KIND, f"{name}.{ending}", content)
        except Conflict:
            continue


def _level(settings: Settings, work: Work) -> LevelAchieved | None:
    facts = work.point.manifest.vm
    level = level_for(settings, facts.name, host=facts.host, tags=facts.tags)
    return LevelAchieved(level.name, level.rpo_s, level.rto_s) if level is not None else None


def _downtime_s(entry: Entry) -> float | None:
    if entry.original_off is None or entry.up is None:
        return None
    return round((entry.up - entry.original_off).total_seconds(), 1)


def as_markdown(report: RestoreReport) -> str:
    """The report as a Markdown page, complete without anything else at hand."""
    title = f"{report.vm} as {report.restored_as}" if report.mode is not Mode.DISKS else f"the disks of {report.vm}"
    lines = [
        f"# Restore of {title} on {report.host}",
        "",
        f"{report.sentence}.",
        "",
        "| | |",
        "|---|---|",
        *_facts(report),
        "",
        "## Steps",
        "",
        "| step | seconds | note |",
        "|---|---|---|",
        *(f"| {step.title} | {step.seconds:.1f} | {step.note} |" for step in report.steps),
        "",
        "## Disks",
        "",
        "| disk | where | format | bytes of data | read again | hash of its content |",
        "|---|---|---|---|---|---|",
        *(
            f"| {disk.target} | {disk.path} | {disk.format} | {disk.data_bytes} |"
            f" {'equal' if disk.verified else 'no'} | {disk.map_root or 'all zero'} |"
            for disk in report.disks
        ),
        "",
        "## Checks",
        "",
        "| check | state | evidence | to do |",
        "|---|---|---|---|",
        *(
            f"| {check.name} | {_state(check, report.accepted)} | {check.evidence} | {check.remedy} |"
            for check in report.checks
        ),
    ]
    if report.proof is not None and report.proof.checks:
        lines += ["", "## Checks in the guest", "", "| check | of | came to | evidence |", "|---|---|---|---|"]
        lines += [
            f"| {_cell(check.name)} | {_cell(check.what)} | {check.state.upper()} | {_cell(check.evidence)} |"
            for check in report.proof.checks
        ]
    if report.lost:
        lines += ["", "## Lost, and zero in the restored disks", "", "| disk | offset | bytes |", "|---|---|---|"]
        lines += [f"| {each.disk} | {each.offset} | {each.length} |" for each in report.lost]
    if report.knobs:
        lines += ["", "## Set while it ran", "", "| when | by | to |", "|---|---|---|"]
        lines += [
            f"| {each.at:%Y-%m-%d %H:%M:%S} UTC | {each.by or 'as it began'} | {in_words(each.knobs)} |"
            for each in report.knobs
        ]
    if report.warnings:
        lines += ["", "## To look at", "", *(f"- {warning}" for warning in report.warnings)]
    return "\n".join(lines) + "\n"


def _state(check: FitnessCheck, accepted: tuple[str, ...]) -> str:
    by_name = check.by_name and check.key in accepted
    return check.state.upper() + (", accepted by name" if by_name else "")


def _cell(text: str) -> str:
    """Text of a guest's, which must not end its cell of a table."""
    return text.replace("|", "\\|")


def _facts(report: RestoreReport) -> list[str]:
    took_s = (report.finished - report.started).total_seconds()
    level = report.level
    asked_loss = _against(report.data_loss_s, level.rpo_s if level else None, level)
    facts = [
        ("restore", f"{report.id}, mode {report.mode.value}"),
        ("recovery point", f"{report.point} in {report.repository}, of {report.moment:%Y-%m-%d %H:%M:%S} UTC"),
        ("why", " ".join(part for part in (report.reason, f"({report.ticket})" if report.ticket else "") if part)),
        ("started", f"{report.started:%Y-%m-%d %H:%M:%S} UTC by {report.operator or 'unknown'}"),
        ("data lost", f"what was written in the {report.data_loss_s / 60:.0f} minutes before it began{asked_loss}"),
        ("downtime", _downtime(report)),
        ("took", f"{took_s:.1f} s for {report.size_bytes / _MIB:.0f} MiB"),
        ("interrupted", f"{report.resumed} times, and went on" if report.resumed else ""),
        ("its point", f"{report.proof.verdict.outcome}: {report.proof.sentence}" if report.proof is not None else ""),
        ("UUID", report.uuid if report.mode is not Mode.DISKS else ""),
        ("can be undone", _window(report)),
        ("command", f"`{report.command}`"),
    ]
    return [f"| {name} | {text} |" for name, text in facts if text]


def _downtime(report: RestoreReport) -> str:
    level = report.level
    if report.downtime_s is None:
        return "the original was not replaced" if report.mode is not Mode.REPLACE else ""
    return (
        f"{report.downtime_s:.1f} s without the VM{_against(report.downtime_s, level.rto_s if level else None, level)}"
    )


def _against(seconds: float, allowed_s: int | None, level: LevelAchieved | None) -> str:
    if allowed_s is None or level is None:
        return ""
    kept = "within" if seconds <= allowed_s else "MORE THAN"
    return f"; {kept} the {format_duration(allowed_s)} of level {level.name}"


def _window(report: RestoreReport) -> str:
    if report.keep_until is not None:
        then = f"; then: {report.at_end.value}" if report.at_end is not None else ""
        return f"until {report.keep_until:%Y-%m-%d %H:%M:%S} UTC{then}"
    return "until it is committed" if report.mode is Mode.REPLACE else ""
