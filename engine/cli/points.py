"""`newhope points`: recovery points. They are read from the repositories alone; no host has to be up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.fleet import RepositoryView
    from engine.repository import Point, ProofMark, VerifiedMark

REPOSITORY = click.option(
    "--repository", metavar="NAME", help="Only this one: its name, or a path or s3:// address that no settings name."
)


@click.group("points", cls=Group, default="list")
def points() -> None:
    """Recovery points: everything needed to bring a VM back as it was at one moment.

    A recovery point is named VM@latest, VM@-1 (the one before), VM@2026-11-22T08:13 (local time, as far as it is
    needed), or by the first digits of its id.

    \b
    Examples:
      newhope points                    all, newest first
      newhope points web                those of one VM
      newhope points show web@latest    one in full
    """


@points.command("list")
@click.argument("vm", required=False, metavar="[VM]")
@REPOSITORY
@click.option("-n", "--limit", default=0, type=click.IntRange(0), help="Only so many.")
@click.pass_obj
def list_points(invocation: Invocation, vm: str | None, repository: str | None, limit: int) -> None:
    """The recovery points, newest first. Those made by the method `guest` hold files of a guest, no VM."""
    from engine.cli import printing
    from engine.cli.documents import of_point
    from engine.cli.named import of_vm
    from engine.errors import NotFound
    from engine.repository import doubts, one_of_each

    views, found = read_points(invocation, repository)
    doubted = doubts(found)
    if vm is not None:
        found = of_vm(found, vm)
        if not found:
            raise NotFound(f"VM {vm} has no recovery point.", next_step=f"make one: `newhope backup {vm}`.")
    if limit:
        named = {(each.manifest.vm.uuid, each.original_id) for each in one_of_each(found)[:limit]}
        found = tuple(each for each in found if (each.manifest.vm.uuid, each.original_id) in named)
    if invocation.json:
        documents = [
            {**of_point(point, doubted), "proof": proof_in(views, point), "verified": verified_in(views, point)}
            for point in found
        ]
        printing.show_json({"points": documents})
        return
    if found:
        _show(found, doubted, views)
    else:
        printing.say("There is no recovery point yet. `newhope backup VM` makes one.")
    for view in views:
        if not view.reachable:
            printing.say(f"! repository {view.name} cannot be read: {view.reason}")
        for damage in view.damaged:
            printing.say(f"! repository {view.name}: {damage}")


@points.command()
@click.argument("name", metavar="VM@SELECTOR")
@REPOSITORY
@click.pass_obj
def show(invocation: Invocation, name: str, repository: str | None) -> None:
    """One recovery point: its moment and what the guest knew of it, its five volumes, disks, snapshots and files."""
    from engine.cli import printing
    from engine.cli.documents import of_point
    from engine.cli.named import find_point
    from engine.repository import doubts

    views, found = read_points(invocation, repository)
    point, doubted = find_point(found, name), doubts(found)
    homes = sorted(each.repository for each in found if _same(each, point))
    mark = proof_in(views, point)
    if invocation.json:
        printing.show_json(
            {
                "point": {
                    **of_point(point, doubted),
                    "copies": homes,
                    "proof": mark,
                    "verified": verified_in(views, point),
                }
            }
        )
        return
    from engine.cli.opened_repository import open_named
    from engine.cli.point_page import show_point
    from engine.repository import read_proof

    info = next((view.info for view in views if view.name == point.repository), None)
    with open_named(lambda: invocation.settings, repository or point.repository) as opened:
        state = opened.verification_state()
        proof = read_proof(opened, mark) if mark is not None else None
    doubt = doubted.get(point.original_id)
    sealed = info.encrypted if info is not None else None
    show_point(point, homes, state, proof, sealed=sealed, doubt=doubt)


def proof_in(views: Sequence[RepositoryView], point: Point) -> ProofMark | None:
    """The newest proof of a point in its repository. One of a copy elsewhere proves that copy."""
    from engine.repository import last_proof

    return last_proof(next((view.proofs for view in views if view.name == point.repository), ()), point)


def verified_in(views: Sequence[RepositoryView], point: Point) -> VerifiedMark:
    """What the newest verification of its repository says of a point."""
    from engine.repository import verified_mark

    return verified_mark(point, next((view.verified for view in views if view.name == point.repository), None))


def _same(one: Point, other: Point) -> bool:
    return (one.manifest.vm.uuid, one.original_id) == (other.manifest.vm.uuid, other.original_id)


def read_points(invocation: Invocation, repository: str | None) -> tuple[tuple[RepositoryView, ...], tuple[Point, ...]]:
    """All recovery points of the repositories that can be read, newest first; raises if none can."""
    from engine.cli.named import refuse_without_repository
    from engine.cli.opened_repository import named
    from engine.cli.passphrase_prompt import ask_for_what_is_missing
    from engine.fleet import look_into_repository

    # Asking for the first one raises where there is none.
    first = named(lambda: invocation.settings, repository)
    wanted = invocation.settings.repositories if repository is None else (first,)
    ask_for_what_is_missing(wanted)
    with invocation.patience("reading repositories"):
        looked = [look_into_repository(each) for each in wanted]
    views = tuple(view for view, _ in looked)
    refuse_without_repository(views)
    found = [point for _, several in looked for point in several]
    return views, tuple(sorted(found, key=lambda point: point.manifest.moment, reverse=True))


def _show(found: tuple[Point, ...], doubted: dict[str, str], views: Sequence[RepositoryView]) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import local, since, size
    from engine.repository import one_of_each

    homes: dict[tuple[str, str], list[str]] = {}
    for point in found:
        homes.setdefault((point.manifest.vm.uuid, point.original_id), []).append(point.repository)
    columns = (
        Column("ID"),
        Column("VM", gives_way=True),
        Column("MOMENT"),
        Column("AGE", right=True),
        Column("HOW"),
        Column("GUEST"),
        Column("SIZE", right=True),
        Column("IN", gives_way=True),
    )
    rows = [
        (
            point.id[:8],
            point.manifest.vm.name,
            local(point.manifest.moment)[:16],
            since(point.manifest.moment),
            point.manifest.method,
            "doubted" if point.original_id in doubted else _guest(point),
            size(point.size_bytes),
            ",".join(homes[point.manifest.vm.uuid, point.original_id]),
        )
        for point in one_of_each(found)
    ]
    proofs = [_newest(proof_in(views, copy) for copy in found if _same(copy, point)) for point in one_of_each(found)]
    if any(view.verified is not None for view in views):
        columns = (*columns[:-1], Column("VERIFIED"), columns[-1])
        marks = [
            _verified([verified_in(views, copy) for copy in found if _same(copy, each)]) for each in one_of_each(found)
        ]
        rows = [(*row[:-1], mark, row[-1]) for row, mark in zip(rows, marks, strict=True)]
    if any(proofs):
        columns = (*columns[:-1], Column("PROVEN"), columns[-1])
        rows = [(*row[:-1], _proven(proof), row[-1]) for row, proof in zip(rows, proofs, strict=True)]
    printing.show_table(columns, rows)
    if any(point.original_id in doubted for point in found):
        printing.say("! doubted: it may hold older content in places; newhope points show VM@ID says why.")


def _newest(proofs: Iterable[ProofMark | None]) -> ProofMark | None:
    return max((proof for proof in proofs if proof is not None), key=lambda proof: proof.at, default=None)


def _proven(proof: ProofMark | None) -> str:
    """Its age, if the guest answered; otherwise what came of it."""
    from engine.cli.wording import since
    from engine.repository import ProofOutcome

    if proof is None:
        return "-"
    return since(proof.at) if proof.verdict.outcome is ProofOutcome.PROVEN else proof.verdict.value


def _verified(marks: Sequence[VerifiedMark]) -> str:
    """Of a point's copies the worst: its age, if it was found sound; otherwise what is known."""
    from engine.cli.wording import since
    from engine.repository import Soundness

    if any(mark.state is Soundness.DAMAGED for mark in marks):
        return "DAMAGED"
    sound = [mark.at for mark in marks if mark.state is Soundness.SOUND and mark.at is not None]
    return since(max(sound)) if sound else "-"


def _guest(point: Point) -> str:
    return {"crash": "crash", "filesystem": "frozen", "off": "off", "memory": "memory", "files": "files"}.get(
        point.manifest.consistency.value, "?"
    )
