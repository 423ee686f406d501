"""Take a restore back: every step that was begun, the newest first, until nothing of it is left.

1. The phase is written: whoever finds the entry from here on must go on undoing, not resume.
2. Each step's undo is carried out, and its mark removed; durable before the next. A step is never undone twice: the
   VM that has the name and UUID again after the original is back must not be taken for the restored one.
3. What cannot be undone now (a host that is silent) stays in the journal with its mark, and is tried again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import structs

from engine.errors import NewhopeError
from engine.restore.carrying_out import WAYS
from engine.restore.journal import Mark, Phase
from engine.restore.steps import Step, StepKind
from engine.restore.work import Ground


class UndoIncomplete(NewhopeError):
    """Something that a restore had made is left behind, and stands in its journal."""


def undo(ground: Ground) -> None:
    """Take everything back. Raises UndoIncomplete; what was undone until then stays undone."""
    ground.note(lambda entry: structs.replace(entry, phase=Phase.UNDOING))
    for mark in _newest_first(ground.entry.marks):
        step = step_of(mark)
        way = WAYS[step.kind]
        try:
            way.undo(ground, step)
        except NewhopeError as error:
            what = way.what.format(of=step.of)
            ground.context.log(f"{what} on {ground.request.to_host} is left behind: {error.what}", level="error")
            raise UndoIncomplete(
                f"The restore of {ground.entry.vm} as {ground.request.name} could not be undone: {error.what}",
                untouched="What is left is written down, here and in a note on the host.",
                next_step=f"{error.next_step.rstrip('.')}; then: newhope restores undo {ground.entry.id}",
            ) from error
        if way.what != "nothing":
            ground.context.log(f"undone: {mark.title}")
        ground.note(
            lambda entry, key=mark.key: structs.replace(
                entry, marks=tuple(each for each in entry.marks if each.key != key)
            )
        )
    ground.note(
        lambda entry: structs.replace(
            entry, phase=Phase.UNDONE, finished=datetime.now(UTC), original=None, disks=(), made=()
        )
    )


def step_of(mark: Mark) -> Step:
    """The step that a mark is of."""
    kind, _, of = mark.key.partition(":")
    return Step(StepKind(kind), of)


def _newest_first(marks: Sequence[Mark]) -> list[Mark]:
    """In the reverse of the order in which steps run, whatever order they were marked in."""
    order = list(StepKind)
    return sorted(marks, key=lambda mark: (order.index(step_of(mark).kind), mark.key), reverse=True)
