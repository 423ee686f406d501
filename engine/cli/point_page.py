"""One recovery point on the terminal: all that decides whether it is the one to bring back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from engine.cli import printing
from engine.cli.guest_point_page import show_guest_point
from engine.cli.table import Column
from engine.cli.wording import consistency, local, since, size
from engine.repository import (
    Manifest,
    Point,
    Proof,
    ProofOutcome,
    SnapshotRecord,
    Soundness,
    VerificationState,
    Volume,
    five_volumes,
    verified_mark,
)


def show_point(
    point: Point,
    homes: Sequence[str],
    state: VerificationState | None,
    proof: Proof | None,
    *,
    sealed: bool | None,
    doubt: str | None,
) -> None:
    """Print it.

    `homes`: repositories with a copy; `state`: what is known of its own; `proof`: its newest; `sealed`: is that
    repository encrypted; `doubt`: why the point may have missed a write.
    """
    vm = point.manifest.vm
    if point.manifest.guest_files is not None:
        show_guest_point(point, point.manifest.guest_files, homes, _verified(point, state))
        return
    printing.show_facts(_facts(point, homes, state, proof, sealed=sealed))
    if doubt:
        printing.say(f"  ! doubted: {doubt}")
    for note in point.manifest.notes:
        printing.say(f"  ! {note}")
    printing.say()
    _show_volumes(five_volumes(point.manifest))
    _show_disks(point.manifest)
    if point.manifest.snapshots:
        printing.say("Snapshots that it had on its host:")
        for line in snapshot_tree(point.manifest.snapshots):
            printing.say(f"  {line}")
        printing.say()
    files = [(file.role, size(file.size_bytes), file.name) for file in point.manifest.files]
    printing.show_table((Column("FILE"), Column("SIZE", right=True), Column("WAS", gives_way=True)), files)
    printing.say()
    printing.say(f"Bring it back with: newhope restore {vm.name}@{point.id[:8]} --to HOST")


def _facts(
    point: Point, homes: Sequence[str], state: VerificationState | None, proof: Proof | None, *, sealed: bool | None
) -> list[tuple[str, str]]:
    manifest = point.manifest
    vm = manifest.vm
    facts = [
        ("point", f"{vm.name}@{point.id} in {point.repository}"),
        ("moment", f"{local(manifest.moment)}, {since(manifest.moment)} ago"),
        ("consistency", f"{consistency(manifest.consistency.value)}: {manifest.consistency_note}"),
        ("method", f"{manifest.method}, {_downtime(manifest)}"),
        ("vm", f"{vm.name} ({vm.uuid}) on {vm.host}"),
        (
            "hardware",
            f"{vm.vcpus} CPUs, {size(vm.memory_bytes)}, {vm.arch} {vm.machine}, {vm.virt_type}, {vm.firmware}"
            + (", TPM" if vm.tpm else ""),
        ),
        ("networks", ", ".join(nic.removesuffix(":") for nic in vm.nics) or "none"),
        ("to restore", size(point.size_bytes)),
        ("read", f"{size(manifest.read_bytes)}, of which new in the repository {size(manifest.new_bytes)}"),
        ("copies", f"{len(homes)}: {', '.join(homes)}"),
        ("verified", _verified(point, state)),
        ("proven", _proven(point, proof)),
        ("checkpoint", manifest.checkpoint or "none: no disk could keep one"),
        ("written by", f"{manifest.writer}, finished {local(manifest.finished)}"),
    ]
    if sealed is not None:
        facts.insert(-2, ("encrypted", "yes, all of it" if sealed else "no: whoever can read the repository reads it"))
    if manifest.origin:
        facts.insert(1, ("copy of", f"{vm.name}@{manifest.origin.point}, made in another repository"))
    return facts


def _downtime(manifest: Manifest) -> str:
    return f"{manifest.downtime_s:.1f} s of downtime" if manifest.downtime_s else "no downtime"


def _verified(point: Point, state: VerificationState | None) -> str:
    """What the newest verification of its repository says of it."""
    mark = verified_mark(point, state.last if state is not None else None)
    if mark.at is None or mark.extent is None:
        return "never: newhope repo verify reads it all and checks it"
    if mark.state is Soundness.DAMAGED:
        return f"DAMAGED: found {since(mark.at)} ago; newhope repo verify names what is hurt"
    if mark.state is Soundness.NOT_YET:
        return f"not yet: the repository was verified {since(mark.at)} ago, before it was made"
    return f"sound, {since(mark.at)} ago ({_day(mark.at)}, {mark.extent.value})"


def _proven(point: Point, proof: Proof | None) -> str:
    """What came of its newest proof."""
    if proof is None:
        return (
            f"never: newhope prove {point.manifest.vm.name}@{point.id[:8]} boots it where it reaches nobody, and asks"
        )
    when = f"{since(proof.at)} ago on {proof.host} ({_day(proof.at)}, {proof.operator})"
    word = {ProofOutcome.PROVEN: "yes", ProofOutcome.FAILED: "NO", ProofOutcome.OPEN: "not conclusive"}
    return f"{word[proof.verdict.outcome]}, {when}: {proof.sentence}"


def _day(moment: datetime) -> str:
    return local(moment)[:10]


def _show_volumes(volumes: Sequence[Volume]) -> None:
    rows = [
        (each.kind.value, size(each.size_bytes) if each.parts else "-", ", ".join(each.parts) or "none")
        for each in volumes
    ]
    printing.show_table((Column("VOLUME"), Column("SIZE", right=True), Column("HOLDS", gives_way=True)), rows)
    printing.say()


def _show_disks(manifest: Manifest) -> None:
    if not manifest.disks:
        return
    rows = [
        (
            disk.target,
            disk.format + (f" on {disk.kind}" if disk.kind not in ("", "file") else ""),
            size(disk.size_bytes),
            size(disk.data_bytes),
            disk.read_reason,
        )
        for disk in manifest.disks
    ]
    columns = (
        Column("DISK"),
        Column("FORMAT"),
        Column("SIZE", right=True),
        Column("DATA", right=True),
        Column("READ", gives_way=True),
    )
    printing.show_table(columns, rows)
    printing.say()


def snapshot_tree(snapshots: Sequence[SnapshotRecord]) -> list[str]:
    """One line a snapshot, below its parent; one whose parent is gone stands at the top."""
    names = {each.name for each in snapshots}

    def below(parent: str | None, depth: int) -> list[str]:
        lines: list[str] = []
        for each in snapshots:
            if each.parent == parent or (parent is None and each.parent not in names):
                lines.append(f"{'  ' * depth}{each.name}  {local(each.created)}  {_kind(each)}")
                lines += below(each.name, depth + 1)
        return lines

    return below(None, 0)


def _kind(each: SnapshotRecord) -> str:
    kinds = (("internal", each.internal), ("external", each.external))
    words = [f"{kind} ({', '.join(disks)})" for kind, disks in kinds if disks]
    if each.memory != "none":
        words.append(f"memory {each.memory}")
    if each.current:
        words.append("current")
    return ", ".join(words) or "no disk"
