"""A name that nothing has: say so, with the nearest names that exist."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import NotFound
from engine.settings.nearest import in_words, nearest


def not_found(kind: str, name: str, existing: Iterable[str], *, next_step: str) -> NotFound:
    """The error for a `kind` (VM, pool, ...) that is not there; the next step starts with the names that look alike."""
    alike = nearest(name, existing)
    meant = f"Did you mean {in_words(alike, last='or')}? " if alike else ""
    return NotFound(f'There is no {kind} "{name}".', next_step=meant + next_step)
