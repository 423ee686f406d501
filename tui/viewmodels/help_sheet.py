"""The sheet of keys as lines, from the one list of actions."""

from __future__ import annotations

from collections.abc import Callable

from tui.actions import Place, actions_of
from tui.viewmodels.text import BLANK, Block, Line, Tone, line, quiet, strong, wrapped

_LETTERS = (
    ("RPO", "OK within its level, LATE older than allowed, NEVER no recovery point, NONE no level, UNKN not known"),
    ("STATE", "> RUN, ! PAUS, - OFF, x CRSH; ? before what was last seen; GONE on no host, UNKN its host is silent"),
    (
        "DAYS",
        "the best of a day: o off, m memory kept, f file systems frozen, c crash-consistent, x backup failed, ! missed,"
        " g only files of the guest, . none; behind it + proven to boot, - failed its proof, ? open",
    ),
    ("CHECK", "PASS, WARN can be gone past, FAIL blocks, SKIP could not be asked"),
)


def help_sheet(place: Place, width: int, why_not: Callable[[str], str | None]) -> Block:
    """What can be done at `place`; what cannot be done now has its reason below it."""
    body: list[Line] = [BLANK]
    for action in actions_of(place):
        key, *rest = wrapped(action.help, width, first=" " * 9)
        body.append(line("  ", strong(f"{action.shown:<7}"), *key[1:]))
        body += rest
        reason = why_not(action.id)
        if reason:
            body += wrapped(f"not now: {reason}", width, first=" " * 9, tone=Tone.WARN)
    body += [BLANK, line(quiet("  words")), BLANK]
    for word, meaning in _LETTERS:
        first, *rest = wrapped(meaning, width, first=" " * 9)
        body += [line("  ", strong(f"{word:<7}"), *first[1:]), *rest]
    return tuple(body)
