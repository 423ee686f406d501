"""Restores of this machine: those that wait for somebody first, and all that is known of the one under the cursor."""

from __future__ import annotations

from engine.restore import AtEnd, Entry, Phase, Standing, commit_means, standing, undo_means
from tui.viewmodels.figures import age, moment, size, span
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import (
    BLANK,
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    fitting,
    labelled,
    line,
    quiet,
    strong,
)

_WORDS = {
    Phase.UNDER_WAY: Span("> RUNS", Tone.NOTE),
    Phase.KEPT: Span("! KEPT", Tone.WARN),
    Phase.COMMITTED: Span("+ COMMIT", Tone.GOOD),
    Phase.UNDOING: Span("> UNDOES", Tone.NOTE),
    Phase.UNDONE: Span("- UNDONE", Tone.QUIET),
    Phase.COMMITTING: Span("> COMMITS", Tone.NOTE),
}
_INTERRUPTED = Span("x BROKEN", Tone.BAD)
_LABEL = 10


def stands(entry: Entry, picture: Picture) -> Standing:
    """Where a restore stands, by the jobs that are known now."""
    alive = any(job.id == entry.job_id and not job.state.over for job in picture.jobs)
    return standing(entry, alive=alive)


def waiting(picture: Picture) -> tuple[Entry, ...]:
    """Those that somebody has to decide on: interrupted, or kept until then."""
    return tuple(entry for entry in picture.restores if stands(entry, picture).undoes or stands(entry, picture).commits)


def counts_line(picture: Picture) -> Line:
    """How many wait for somebody, and how many there are."""
    number = len(waiting(picture))
    tone = Tone.WARN if number else Tone.PLAIN
    return line(quiet("WAIT FOR YOU "), Span(f"{number}", tone), quiet("   known "), f"{len(picture.restores)}")


def restore_table(picture: Picture, width: int, *, wanted: str = "", faults_only: bool = False) -> Table:
    """What waits for somebody first, then the newest first."""
    columns = fitting(
        (
            Column("state", "STATE", 9),
            Column("vm", "VM", 12, grows=True),
            Column("as", "AS", 14, grows=True),
            Column("host", "HOST", 10),
            Column("mode", "MODE", 7),
            Column("begun", "BEGUN", 11),
            Column("left", "UNTIL", 7, right=True),
            Column("id", "ID", 8),
        ),
        width,
        give_up=("id", "mode", "begun", "host"),
    )
    open_ones = {entry.id for entry in waiting(picture)}
    found = [
        entry
        for entry in sorted(picture.restores, key=lambda entry: (entry.id not in open_ones, entry.phase.over))
        if (not faults_only or entry.id in open_ones) and _matches(entry, wanted)
    ]
    rows = tuple(Row(entry.id, tuple(_cell(column.key, entry, picture) for column in columns)) for entry in found)
    return Table(columns, rows, _why_none(picture, wanted, faults_only))


def _matches(entry: Entry, wanted: str) -> bool:
    request = entry.request
    text = f"{entry.id} {entry.vm} {request.name} {request.to_host} {request.mode} {entry.phase} {request.ticket}"
    return all(word in text.lower() for word in wanted.lower().split())


def _why_none(picture: Picture, wanted: str, faults_only: bool) -> Block:
    if wanted:
        return (line("No restore matches ", strong(wanted), "."), line(quiet("Esc clears the filter.")))
    if faults_only and picture.restores:
        return (line(Span("No restore waits for you.", Tone.GOOD)), line(quiet("f shows all of them.")))
    return (
        line(strong("Nothing was restored from here yet.")),
        line(quiet("In the fleet (1): R brings a VM back.")),
        line(quiet("Another machine's are taken over by: newhope restores find HOST")),
    )


def _cell(key: str, entry: Entry, picture: Picture) -> Span:
    if key == "state":
        return state_word(entry, picture)
    request = entry.request
    texts = {
        "vm": entry.vm,
        "as": request.name if request.defines else "disks only",
        "host": request.to_host,
        "mode": request.mode.value,
        "begun": moment(entry.created, picture.now),
        "left": _left(entry, picture),
        "id": entry.id,
    }
    return Span(texts[key])


def state_word(entry: Entry, picture: Picture) -> Span:
    """Its state as a sign and a word."""
    return _INTERRUPTED if stands(entry, picture).interrupted else _WORDS[entry.phase]


def _left(entry: Entry, picture: Picture) -> str:
    if entry.phase is not Phase.KEPT or entry.keep_until is None:
        return ""
    seconds = (entry.keep_until - picture.now).total_seconds()
    return age(seconds) if seconds > 0 else "over"


def restore_page(entry: Entry | None, picture: Picture, width: int) -> Block:
    """All that is known of one restore: what it waits for, what it cost, what it made, and its steps."""
    if entry is None:
        return ()
    request = entry.request
    word = state_word(entry, picture)
    body: list[Line] = [*_labelled("state", f"{word.text}  {_waits_for(entry, picture)}", width, tone=word.tone)]
    body += _labelled("point", f"{entry.vm}@{request.point_id[:8]} in {request.repository}", width)
    lost_s = (entry.created - entry.moment).total_seconds()
    body += _labelled("lost", f"what was written in the {span(lost_s)} before it was begun", width)
    if entry.original_off is not None and entry.up is not None:
        body += _labelled("downtime", f"{span((entry.up - entry.original_off).total_seconds())} without the VM", width)
    body += _labelled("begun", f"{moment(entry.created, picture.now)} by {request.operator or 'unknown'}", width)
    why = " ".join(part for part in (request.reason, request.ticket) if part)
    body += _labelled("why", why, width) if why else ()
    if request.aside is not None:
        body += _labelled("original", f"{request.aside.kept_name} on {request.aside.host}", width)
    for disk in entry.disks:
        checked = ", read again and equal" if disk.verified else ""
        path, image_format = disk.used
        body += _labelled("disk", f"{disk.target}: {path} ({image_format}, {size(disk.data_bytes)}{checked})", width)
    if entry.agent_answered_s is not None:
        body += _labelled("agent", f"answered {entry.agent_answered_s:.1f} s after the start", width)
    for warning in entry.warnings:
        body += _labelled("look at", warning, width, tone=Tone.WARN)
    if entry.keep_until is not None and entry.phase is Phase.KEPT:
        then = {AtEnd.COMMIT: ", then it is committed", AtEnd.UNDO: ", then it is taken back"}
        ends = then[request.at_end] if request.at_end is not None else ""
        body += _labelled("until", f"{moment(entry.keep_until, picture.now)}{ends}", width)
    body += _labelled("CLI", f"newhope restores show {entry.id}", width, tone=Tone.NOTE)
    return (*body, BLANK, *_mark_lines(entry, width))


def _labelled(label: str, text: str, width: int, *, tone: Tone = Tone.PLAIN) -> Block:
    return labelled(label, text, width, tone=tone, label_width=_LABEL)


def _waits_for(entry: Entry, picture: Picture) -> str:
    found = stands(entry, picture)
    if entry.phase.over:
        return "nothing can or need be done with it"
    ways = [
        words
        for possible, words in (
            (found.resumes, "R goes on where it was"),
            (found.commits, "C keeps it for good"),
            (found.undoes, "U takes it back"),
        )
        if possible
    ]
    return "; ".join(ways) or f"job {entry.job_id} is at work on it"


def _mark_lines(entry: Entry, width: int) -> Block:
    rows: list[Line] = []
    for mark in entry.marks:
        took = span((mark.done - mark.begun).total_seconds()) if mark.done is not None else ""
        word = Span("ok   ", Tone.GOOD) if mark.done is not None else Span("begun", Tone.WARN)
        text = f"{mark.title}  {mark.note}" if mark.note else mark.title
        rows.append(line(word, f"  {text[: width - 15]:<{width - 15}}", quiet(f"{took:>7}")))
    return tuple(rows)


def undo_lines(entry: Entry, width: int) -> Block:
    """What taking it back means."""
    head = line("Take the restore of ", strong(entry.vm), f" as {entry.request.name} on {entry.request.to_host} back.")
    return (head, BLANK, *_sentences(undo_means(entry), width))


def commit_lines(entry: Entry, width: int) -> Block:
    """What keeping it for good means."""
    head = line("Keep ", strong(entry.request.name), f" on {entry.request.to_host} for good: it cannot be undone then.")
    more = (f"newhope restores commit {entry.id} --delete-original removes it.",) if entry.request.aside else ()
    return (head, BLANK, *_sentences((*commit_means(entry), *more), width))


def resume_lines(entry: Entry, width: int) -> Block:
    """What going on means."""
    head = line("Go on with the restore of ", strong(entry.vm), f" as {entry.request.name}.")
    done = sum(mark.done is not None for mark in entry.marks)
    said = (
        f"{done} steps are done already; what a step had begun is looked at, and not trusted.",
        "Blocks that are on the disks already are read and compared instead of written.",
    )
    return (head, BLANK, *_sentences(said, width))


def _sentences(said: tuple[str, ...], width: int) -> Block:
    return tuple(row for sentence in said for row in labelled("  -", sentence, width, label_width=4))
