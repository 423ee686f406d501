"""The fleet: hosts, VMs with the age of their newest recovery point, repositories; worst first."""

from __future__ import annotations

from engine.hosts.model import HostSnapshot, HostStatus, VmState
from engine.jobs.model import JobState
from engine.requirements import ExposureState
from engine.resilience import Severity
from tui.viewmodels.figures import age, limit, moment, size
from tui.viewmodels.picture import FINE, Picture, VmView, host_word, protection, state_word
from tui.viewmodels.restore_rows import waiting
from tui.viewmodels.text import (
    BLANK,
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    bare,
    fitting,
    labelled,
    line,
    quiet,
    strong,
)
from tui.viewmodels.timeline import strip

ALL_HOSTS = ""
"""Key of the row that stands for every host."""
_DAY_S = 86400


def summary_line(picture: Picture) -> Line:
    """The whole fleet in one line, each number with its word."""
    views = picture.views
    ranks = [bare(protection(view)[1]) for view in views]
    parts: list[Span] = [quiet("HOSTS "), Span(f"{len(picture.settings.hosts)}  ")]
    parts += [quiet("VMS "), Span(f"{len(views)}"), quiet("  │ ")]
    for word, tone in (("NEVER", Tone.BAD), ("LATE", Tone.WARN), ("UNKN", Tone.WARN), ("NONE", Tone.PLAIN)):
        if word in ranks:
            parts += [quiet(f"{word} "), Span(f"{ranks.count(word)}  ", tone)]
    parts += [quiet("OK "), Span(f"{ranks.count('OK')}", Tone.GOOD)]
    running = sum(1 for job in picture.jobs if not job.state.over)
    parts += [quiet("  │ jobs "), Span(f"{running} running" if running else "none", Tone.PLAIN)]
    wait = len(waiting(picture))
    parts += [quiet("  │ restores "), Span(f"{wait} wait", Tone.WARN)] if wait else []
    fails = sum(1 for finding in picture.findings if finding.severity is Severity.FAIL)
    warns = sum(1 for finding in picture.findings if finding.severity is Severity.WARN)
    told = Span(f"{warns} WARN", Tone.WARN) if warns else Span("OK", Tone.GOOD)
    parts += [quiet("  │ checks "), Span(f"{fails} FAIL", Tone.BAD) if fails else told]
    return tuple(parts)


def host_table(picture: Picture, width: int) -> Table:
    """One row a configured host, and one for all of them."""
    columns = (
        Column("host", "HOST", 12, grows=True),
        Column("state", "STATE", 12),
        Column("vms", "VMS", 3, right=True),
        Column("run", "RUN", 4, right=True),
        Column("worst", "WORST", 8),
        Column("memory", "MEM FREE", 9, right=True),
        Column("pool", "DISK FREE", 10, right=True),
        Column("checks", "CHECKS", 8),
    )
    kept = fitting(columns, width, give_up=("pool", "memory", "checks", "run"))
    views = picture.views
    rows: list[Row] = []
    if picture.settings.hosts:
        # Even beside one host: VMs of hosts that are no longer configured have recovery points, too.
        rows.append(_host_row(ALL_HOSTS, "all hosts", quiet(""), None, views, picture, kept))
    for host in picture.settings.hosts:
        snapshot = picture.snapshot(host.name)
        mine = tuple(view for view in views if view.host == host.name)
        rows.append(_host_row(host.name, host.name, _host_state(snapshot, picture), snapshot, mine, picture, kept))
    empty = (
        line(strong("No host is configured yet.")),
        BLANK,
        line("Write one with ", strong("newhope init"), ", or practise on hosts made for it:"),
        line(strong("newhope lab up")),
        line(quiet(f"The settings are read from {picture.settings.file}.")),
    )
    return Table(kept, tuple(rows), empty)


def _host_state(snapshot: HostSnapshot | None, picture: Picture) -> Span:
    word = host_word(snapshot)
    if snapshot is None or snapshot.status is not HostStatus.STALE:
        return word
    return Span(f"{word.text} {age((picture.now - snapshot.taken_at).total_seconds())}", word.tone)


def _host_row(
    key: str,
    name: str,
    state: Span,
    snapshot: HostSnapshot | None,
    views: tuple[VmView, ...],
    picture: Picture,
    columns: tuple[Column, ...],
) -> Row:
    answers = snapshot is not None and snapshot.status is HostStatus.ONLINE
    facts = snapshot.facts if snapshot else None
    running = sum(1 for view in views if view.vm is not None and view.vm.state is VmState.RUNNING)
    free = sum(pool.available_bytes for pool in snapshot.pools if pool.active) if snapshot else 0
    findings = picture.findings if key == ALL_HOSTS else [f for f in picture.findings if f.subject == key]
    fails = sum(1 for finding in findings if finding.severity is Severity.FAIL)
    warns = sum(1 for finding in findings if finding.severity is Severity.WARN)
    unknown = quiet("-")
    cells = {
        "host": Span(name, Tone.PLAIN if key else Tone.QUIET),
        "state": state,
        "vms": Span(str(len(views))),
        "run": Span(str(running)) if answers or not key else quiet("?"),
        "worst": protection(min(views, key=lambda view: protection(view)[0]))[1] if views else unknown,
        "memory": Span(size(facts.memory_free_bytes)) if facts and answers else unknown,
        "pool": Span(size(free)) if answers and snapshot and snapshot.pools else unknown,
        "checks": (
            Span(f"{fails} FAIL", Tone.BAD)
            if fails
            else Span(f"{warns} WARN", Tone.WARN)
            if warns
            else unknown
            if picture.fleet is None
            else Span("OK", Tone.GOOD)
        ),
    }
    return Row(key, tuple(cells[column.key] for column in columns))


def matches(view: VmView, wanted: str) -> bool:
    """Whether a filter fits: every word must occur; a word after `!` must not."""
    text = f"{view.name} {view.host} {bare(state_word(view))} {view.level.name if view.level else ''}".lower()
    text += f" {bare(protection(view)[1]).lower()}"
    return all(
        (word[1:] not in text) if word.startswith("!") and len(word) > 1 else word in text
        for word in wanted.lower().split()
    )


def faulty(view: VmView) -> bool:
    """Whether something about the VM needs a person."""
    return protection(view)[0] < FINE or view.host_status is not HostStatus.ONLINE


def vm_table(
    picture: Picture, width: int, *, host: str = ALL_HOSTS, wanted: str = "", faults_only: bool = False
) -> Table:
    """The VMs of a host, or of all, that the filter leaves."""
    days = 30 if width >= 112 else 14 if width >= 88 else 7
    columns = fitting(
        (
            Column("protected", "RPO", 8),
            Column("vm", "VM", 14, grows=True),
            Column("host", "HOST", 10),
            Column("state", "STATE", 6),
            Column("newest", "NEWEST", 11),
            Column("age", "AGE", 6, right=True),
            Column("level", "LEVEL", 10),
            Column("days", f"{days} DAYS", days),
        ),
        width,
        give_up=("level", "newest", "days", "host"),
    )
    everything = picture.views
    views = [
        view
        for view in everything
        if (host == ALL_HOSTS or view.host == host) and matches(view, wanted) and (not faults_only or faulty(view))
    ]
    rows = tuple(_vm_row(view, picture, columns, days) for view in views)
    return Table(columns, rows, _why_no_vm(picture, bool(everything), host, wanted, faults_only))


def _vm_row(view: VmView, picture: Picture, columns: tuple[Column, ...], days: int) -> Row:
    newest = view.newest.manifest.moment if view.newest else None
    level = f"{view.level.name} {limit(view.level.rpo_s)}" if view.level else "-"
    failed = tuple(job for job in picture.jobs if job.subject == view.name)
    removed = view.exposure is not None and view.exposure.state is ExposureState.GONE
    rpo_s = view.level.rpo_s if view.level and not removed else None
    rank = protection(view)
    cells = {
        "protected": rank[1],
        "vm": Span(view.name, Tone.STRONG if rank[0] == 0 else Tone.PLAIN),
        "host": Span(view.host),
        "state": state_word(view),
        "newest": _newest(view, picture, newest is not None),
        "age": Span(age((picture.now - newest).total_seconds()) if newest else "-"),
        "level": Span(level),
    }
    if any(column.key == "days" for column in columns):
        letters = strip(view.points, failed, picture.now, buckets=days, bucket_s=_DAY_S, rpo_s=rpo_s)
        cells["days"] = Span(letters, Tone.PLAIN if letters.strip(".") else Tone.QUIET)
    return Row(view.uuid, tuple(cells[column.key] for column in columns))


def _newest(view: VmView, picture: Picture, any_point: bool) -> Span:
    if view.job is not None and view.job.kind == "backup":
        return Span("in work", Tone.NOTE)
    if not any_point or view.newest is None:
        return Span("none", Tone.QUIET)
    return Span(moment(view.newest.manifest.moment, picture.now))


def _why_no_vm(picture: Picture, any_vm: bool, host: str, wanted: str, faults_only: bool) -> Block:
    if picture.fleet is None:
        return (line(strong("LOADING"), quiet("  asking the hosts for the first time...")),)
    if wanted:
        return (line("No VM matches ", strong(wanted), "."), line(quiet("Esc clears the filter.")))
    if faults_only and any_vm:
        return (line(Span("No VM needs you.", Tone.GOOD)), line(quiet("f shows all of them again.")))
    snapshot = picture.snapshot(host)
    if snapshot is not None and snapshot.status is HostStatus.OFFLINE:
        reason = snapshot.reason or "It does not answer."
        return (
            line(Span("OFFLINE  ", Tone.BAD), reason),
            *((line(quiet("Next: "), snapshot.next_step),) if snapshot.next_step else ()),
        )
    if not picture.settings.hosts:
        return ()
    return (
        line(strong("No VM here, and no recovery point of one.")),
        line(quiet("A VM appears as soon as its host has it: virsh define, or newhope restore.")),
    )


def repository_table(picture: Picture, width: int) -> Table:
    """Where recovery points are kept, and how much room is left."""
    columns = fitting(
        (
            Column("name", "NAME", 12, grows=True),
            Column("state", "STATE", 9),
            Column("points", "POINTS", 6, right=True),
            Column("stored", "STORED", 9, right=True),
            Column("free", "FREE", 9, right=True),
        ),
        width,
        give_up=("stored",),
    )
    rows: list[Row] = []
    for repository in picture.settings.repositories:
        view = picture.repository(repository.name)
        state = quiet("? ASKING")
        if view is not None:
            state = Span("+ OK", Tone.GOOD) if view.reachable else Span("x OFFLINE", Tone.BAD)
        info = view.info if view else None
        cells = {
            "name": Span(repository.name),
            "state": state,
            "points": Span(str(info.points) if info else "-"),
            "stored": Span(size(info.stored_bytes) if info else "-"),
            "free": Span(size(info.free_bytes) if info and info.free_bytes is not None else "-"),
        }
        rows.append(Row(repository.name, tuple(cells[column.key] for column in columns)))
    empty = (line("No repository is configured."), line(quiet("newhope repo init PATH makes one.")))
    return Table(columns, tuple(rows), empty)


def vm_glance(picture: Picture, view: VmView | None, width: int) -> Block:
    """The VM under the cursor, for the third pane of a wide terminal."""
    if view is None:
        return ()
    _, word, meaning = protection(view)
    newest = view.newest
    body: list[Line] = [
        line(Span(bare(word), word.tone), f"  its newest recovery point {meaning}")
        if newest
        else line(Span(bare(word), word.tone), f"  {meaning}"),
        BLANK,
    ]
    if view.vm is not None:
        body += labelled("machine", f"{view.vm.vcpus} vCPU, {size(view.vm.memory_bytes)}, {view.vm.firmware}", width)
        for disk in view.vm.disks:
            if disk.device == "disk":
                text = f"{disk.target}  {size(disk.capacity_bytes)}  {disk.format}"
                body += labelled("disk", text, width)
        for nic in view.vm.nics:
            body += labelled("network", f"{nic.source or nic.kind}  {nic.mac}", width)
        body += labelled("agent", view.vm.agent.value, width)
    body.append(BLANK)
    if view.level:
        text = f"{view.level.name}: lose at most {limit(view.level.rpo_s)}, back in {limit(view.level.rto_s)}"
        body += labelled("level", text, width)
    for point in view.points[:5]:
        text = f"{moment(point.manifest.moment, picture.now):<12}{point.manifest.consistency.value:<11}"
        body += labelled("point", f"{text}{size(point.size_bytes):>8}  {point.repository}", width)
    if len(view.points) > 5:
        body += labelled("", f"and {len(view.points) - 5} older ones", width, tone=Tone.QUIET)
    mine = [finding for finding in picture.findings if finding.subject == view.name or view.uuid in finding.vms]
    for finding in mine:
        if finding.severity in (Severity.FAIL, Severity.WARN):
            tone = Tone.BAD if finding.severity is Severity.FAIL else Tone.WARN
            body += [BLANK, *labelled(finding.severity.upper(), finding.what, width, tone=tone)]
            body += [row for step in finding.fix[:1] for row in labelled("next", step, width)]
    if view.job is not None and view.job.state is JobState.RUN:
        body += [BLANK, *labelled("job", f"{view.job.kind} is at work (job {view.job.id})", width, tone=Tone.NOTE)]
    return tuple(body)
