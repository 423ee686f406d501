"""One VM: facts, how well it is protected, and the recovery points it can be brought back from."""

from __future__ import annotations

from engine.fleet import ProofState
from engine.hosts.model import HostStatus
from engine.repository import Soundness, doubts, five_volumes, last_proof, verified_mark
from engine.repository.model import Consistency, GuestFiles, Manifest, Point, PointKind
from tui.viewmodels.figures import age, ago, limit, lost, moment, size, span, stamp
from tui.viewmodels.picture import Picture, VmView, protection, state_word
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
    labelled,
    line,
    quiet,
    strong,
    wrapped,
)

_PROOF_SIGNS = {
    ProofState.FAILED: ("x", Tone.BAD),
    ProofState.NEVER: ("!", Tone.WARN),
    ProofState.LATE: ("!", Tone.WARN),
    ProofState.OPEN: ("?", Tone.WARN),
    ProofState.PROVEN: ("+", Tone.GOOD),
}

CONSISTENCY_WORDS = {
    Consistency.CRASH: "crash",
    Consistency.FILESYSTEM: "frozen",
    Consistency.OFF: "off",
    Consistency.MEMORY: "memory",
    Consistency.FILES: "# files",
}


def facts_line(view: VmView) -> Line:
    """What the machine is, in one line."""
    vm = view.vm
    word = state_word(view)
    if vm is None:
        where = "no host has it now" if view.host_status is HostStatus.ONLINE else f"{view.host} does not answer"
        return line(word, f"  {where}; its recovery points are kept")
    disks = [disk for disk in vm.disks if disk.device == "disk"]
    room = sum(disk.capacity_bytes for disk in disks)
    network = ", ".join(sorted({nic.source or nic.kind for nic in vm.nics})) or "none"
    return line(
        word,
        f"  {vm.vcpus} vCPU  {size(vm.memory_bytes)}",
        quiet("  disks "),
        f"{len(disks)}, {size(room)}",
        quiet("  net "),
        network,
        quiet("  agent "),
        Span(vm.agent.value, Tone.PLAIN if vm.agent.value == "connected" else Tone.WARN),
        quiet(f"  {vm.firmware}{' tpm' if vm.tpm else ''}"),
    )


def protection_line(view: VmView, picture: Picture) -> Line:
    """The newest recovery point against what its level asks."""
    _, word, meaning = protection(view)
    newest = view.newest
    if newest is None:
        return line(Span(bare(word), word.tone), f"  {meaning}", quiet("  B makes the first one"))
    age_s = (picture.now - newest.manifest.moment).total_seconds()
    parts: list[str | Span] = [
        Span(bare(word), word.tone),
        f"  newest {moment(newest.manifest.moment, picture.now)} ({ago(age_s)})",
    ]
    if view.level is None:
        parts.append(quiet(f"  {meaning}"))
    else:
        left = view.level.rpo_s - age_s
        verdict = f"{age(left)} left" if left >= 0 else f"exceeded by {age(-left)}"
        parts += [quiet("  level "), f"{view.level.name}, RPO {limit(view.level.rpo_s)}: "]
        parts.append(Span(verdict, Tone.PLAIN if left >= 0 else Tone.WARN))
    return line(*parts)


def point_table(view: VmView, picture: Picture, width: int) -> Table:
    """Its recovery points, newest first; each is complete by itself."""
    columns = [
        Column("when", "WHEN", 12),
        Column("loss", "LOSS", 7, right=True),
        Column("method", "METHOD", 6),
        Column("consistency", "CONSISTENT", 10),
        Column("size", "TO WRITE", 9, right=True),
        Column("new", "ADDED", 9, right=True),
        Column("copies", "COPIES", 12, grows=True),
        Column("id", "ID", 6),
    ]
    if width < 78:
        columns = [column for column in columns if column.key not in ("new", "id")]
    doubted = doubts(view.points)
    rows = tuple(
        Row(point_key(point), tuple(_point_cell(column.key, point, view, picture, doubted) for column in columns))
        for point in view.points_of_every_kind
    )
    empty = (
        line(strong("No recovery point yet."), f"  If {view.host or 'its host'} dies now, {view.name} is lost."),
        line(quiet("Press B to make one.")),
    )
    return Table(tuple(columns), rows, empty)


def point_key(point: Point) -> str:
    """What names a point's row: the same id may be in several repositories."""
    return f"{point.repository}/{point.id}"


def copies_of(point: Point, view: VmView) -> tuple[str, ...]:
    """The repositories that hold the same moment of the same VM."""
    every = view.points_of_every_kind
    same = [
        other.repository
        for other in every
        if (other.manifest.moment, other.manifest.kind) == (point.manifest.moment, point.manifest.kind)
    ]
    return tuple(sorted(set(same)))


def _point_cell(key: str, point: Point, view: VmView, picture: Picture, doubted: dict[str, str]) -> Span:
    manifest = point.manifest
    files = manifest.kind is PointKind.GUEST
    weak = manifest.consistency is Consistency.CRASH or point.original_id in doubted
    word = "! doubted" if point.original_id in doubted else CONSISTENCY_WORDS[manifest.consistency]
    texts = {
        "when": Span(moment(manifest.moment, picture.now)),
        "loss": Span("-" if files else age((picture.now - manifest.moment).total_seconds())),
        "method": Span(manifest.method),
        "consistency": Span(word, Tone.WARN if weak else Tone.PLAIN if files else Tone.GOOD),
        "size": Span(size(point.size_bytes)),
        "new": Span(size(manifest.new_bytes)),
        "copies": Span(",".join(copies_of(point, view))),
        "id": Span(point.id[:6], Tone.QUIET),
    }
    return texts[key]


_ROOM_FOR_PARTS = 14
"""Lines of a pane from which on each of the five volumes has a line of its own, with what is in it."""

_ROOM_BESIDE = 72
"""Columns from which on what is in a volume stands beside its size, however long it is."""


def point_lines(point: Point | None, view: VmView, picture: Picture, width: int, height: int = 0) -> Block:
    """The recovery point under the cursor, for a pane of this size; one that is low scrolls."""
    if point is None:
        return ()
    manifest = point.manifest
    if manifest.guest_files is not None:
        return _guest_point_lines(point, manifest.guest_files, view, picture, width)
    doubt = doubts(view.points).get(point.original_id)
    loss = lost((picture.now - manifest.moment).total_seconds())
    disks = ", ".join(
        f"{disk.target} {size(disk.size_bytes)} ({size(disk.data_bytes)} of data)" for disk in manifest.disks
    )
    stood = f"{span(manifest.downtime_s)} not running" if manifest.downtime_s >= 1 else "the guest kept running"
    took = span((manifest.finished - manifest.moment).total_seconds())
    return (
        *labelled("moment", f"{stamp(manifest.moment)}, and all since would be lost ({loss})", width),
        *(labelled("doubted", doubt, width) if doubt else ()),
        *labelled("content", manifest.consistency_note, width),
        *labelled("marks", _marks(point, view, picture), width),
        *labelled("disks", disks or "none", width),
        *_volume_lines(manifest, width, apart=height >= _ROOM_FOR_PARTS),
        *labelled("made", f"{manifest.method}, {stood}, copied in {took}, on {manifest.vm.host}", width),
        *labelled("name", f"{view.name}@{point.id[:8]} in {point.repository}", width),
    )


def _volume_lines(manifest: Manifest, width: int, *, apart: bool) -> Block:
    """What a host is made of, each with its size: in one sentence, or `apart` in a line each with its parts."""
    volumes = five_volumes(manifest)
    if not apart:
        sizes = (f"{each.kind.value} {size(each.size_bytes) if each.parts else 'none'}" for each in volumes)
        return labelled("volumes", ", ".join(sizes), width)
    rows: list[Line] = []
    for number, each in enumerate(volumes):
        weighs = size(each.size_bytes) if each.parts else "-"
        head = f"{'volumes' if number == 0 else '':<9}{each.kind.value:<18} {weighs:>8}  "
        parts = ", ".join(each.parts) or "none"
        if width - len(head) >= len(parts) or width >= _ROOM_BESIDE:
            rows += wrapped(parts, width, first=head, indent=" " * len(head))
        else:
            rows += [line(quiet(head)), *wrapped(parts, width, first=" " * 11)]
    return tuple(rows)


def proof_line(view: VmView, picture: Picture) -> Line:
    """How long ago it was proven to come back, against what its level asks; nothing where nobody asks."""
    standing = view.exposure.proof if view.exposure is not None else None
    if standing is None or standing.state is ProofState.NOT_ASKED:
        return BLANK
    ago_words = "" if standing.age_s is None else f", {ago(standing.age_s)}"
    point = f" (point {standing.last.point_id[:8]})" if standing.last is not None else ""
    asked = view.level.prove_every_s if view.level is not None else None
    level = quiet(f"  level {view.level.name} asks every {limit(asked)}") if view.level and asked else quiet("")
    sign, tone = _PROOF_SIGNS[standing.state]
    return line(Span(f"{sign} {standing.state.value}", tone), f"{ago_words}{point}", level)


def _marks(point: Point, view: VmView, picture: Picture) -> str:
    """What was found out of a point since it was made: whether it is whole, and whether it boots."""
    repository = picture.repository(point.repository)
    verified = verified_mark(point, repository.verified if repository is not None else None)
    when = f" {ago((picture.now - verified.at).total_seconds())}" if verified.at is not None else ""
    sound = f"verified: {verified.state.value}{when if verified.state is not Soundness.NOT_YET else ''}"
    proof = last_proof(view.proofs, point)
    if proof is None:
        return f"{sound}; never proven"
    old = ago((picture.now - proof.at).total_seconds())
    return f"{sound}; {proof.verdict.outcome.value} {old} ({proof.verdict.value})"


def _guest_point_lines(point: Point, kept: GuestFiles, view: VmView, picture: Picture, width: int) -> Block:
    """A point of files from inside the guest: what it holds, and how to get at it."""
    manifest = point.manifest
    old = ago((picture.now - manifest.moment).total_seconds())
    entries = f"{kept.entries} entries, {size(kept.size_bytes)}, {size(manifest.new_bytes)} new in the repository"
    failed = [f"{each.command}: exit status {each.exit_code}" for each in kept.commands if each.exit_code]
    return (
        *labelled("moment", f"{stamp(manifest.moment)} ({old})   {manifest.consistency_note}", width),
        *labelled("holds", "files from inside the guest; no VM comes back from it", width),
        *labelled("paths", ", ".join(kept.paths), width),
        *labelled("files", entries, width),
        *labelled("made", f"{kept.way}, as [guest_files.{kept.section}] says", width),
        *(labelled("failed", "; ".join(failed), width) if failed else ()),
        *(labelled("tar said", "; ".join(kept.notes[:3]), width) if kept.notes else ()),
        *labelled("get them", f"f, or: newhope files {view.name}@{point.id[:8]}", width),
    )
