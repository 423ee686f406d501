"""From the list of actions to Textual's bindings and to the footer."""

from __future__ import annotations

from collections.abc import Callable

from textual.binding import Binding, BindingType

from tui.actions import Action, Place, actions_of
from tui.viewmodels.text import Line, Span, Tone

_LAST = ("help", "quit_console")
"""The two that are always in the footer."""
_MOST_NARROW, _MOST_WIDE = 7, 12


def bindings_of(place: Place) -> list[BindingType]:
    """The bindings of a screen; all go through `perform`, which can say why something is not possible."""
    return [
        Binding(",".join(action.keys), f"perform('{action.id}')", action.label, show=False, id=action.id)
        for action in actions_of(place)
    ]


def footer_line(place: Place, width: int, why_not: Callable[[str], str | None]) -> Line:
    """The keys that matter most here, as many as fit; those not possible now are shown in brackets."""
    ranked = [action for action in actions_of(place) if action.rank]
    most = _MOST_NARROW if width < 100 else _MOST_WIDE
    kept = {action.id for action in ranked if action.id in _LAST}
    room = width - 1 - sum(_width(action, why_not) for action in ranked if action.id in kept)
    # Where not all fit, those that would only tell why they cannot be used now go first; `?` has them all.
    for action in sorted(ranked, key=lambda action: why_not(action.id) is not None):
        wide = _width(action, why_not)
        if action.id not in kept and len(kept) < most and wide <= room:
            kept.add(action.id)
            room -= wide
    parts: list[Span] = [Span(" ")]
    for action in ranked:
        if action.id not in kept:
            continue
        if why_not(action.id):
            parts.append(Span(f"({action.shown} {action.label})  ", Tone.QUIET))
        else:
            parts += [Span(action.shown, Tone.STRONG), Span(f" {action.label}  ")]
    return tuple(parts)


def _width(action: Action, why_not: Callable[[str], str | None]) -> int:
    return len(action.shown) + len(action.label) + 3 + (2 if why_not(action.id) else 0)
