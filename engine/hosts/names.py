"""A name that nothing has: say so, with the nearest names that exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from engine.errors import NotFound


def not_found(kind: str, name: str, existing: Iterable[str], *, next_step: str) -> NotFound:
    """The error for a `kind` (host, VM, pool) that is not there, with the nearest spellings."""
    nearest = get_close_matches(name, sorted(set(existing)), n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    return NotFound(f"There is no {kind} named {name}.{meant}", next_step=next_step)
