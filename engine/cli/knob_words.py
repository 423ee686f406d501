"""Knobs as people type them, and the words that say the same on a command line."""

from __future__ import annotations

from msgspec import structs

from engine.cli.failures import Usage
from engine.jobs import Knobs, Priority
from engine.jobs.knobs import with_streams
from engine.settings import UNLIMITED, format_rate, parse_rate


def turned(
    knobs: Knobs, *, paused: bool | None, bandwidth: str | None, priority: str | None, streams: int | None
) -> Knobs:
    """The knobs after what was typed; None leaves one as it is. Raises `InvalidRate`, `Conflict`."""
    limit = knobs.bandwidth
    if bandwidth is not None:
        limit = None if bandwidth.strip().lower() == UNLIMITED else parse_rate(bandwidth)
    return structs.replace(
        knobs if streams is None else with_streams(knobs, streams),
        paused=knobs.paused if paused is None else paused,
        bandwidth=limit,
        priority=knobs.priority if priority is None else Priority(priority),
    )


def refuse_nothing(*options: object) -> None:
    """Raise `Usage` if nothing was typed that could be set."""
    if all(option is None for option in options):
        raise Usage(
            "There is nothing to set.",
            next_step="say what: --pause, --resume, --bandwidth 50MiB, --priority low, --streams 2.",
        )


def words_of(knobs: Knobs, usual_streams: int) -> list[str]:
    """The options of `newhope restore` that begin with these knobs; none for the usual ones."""
    words = ["--bandwidth", format_rate(knobs.bandwidth)] if knobs.bandwidth is not None else []
    words += ["--priority", knobs.priority.value] if knobs.priority is not Priority.NORMAL else []
    words += ["--streams", str(knobs.streams)] if knobs.streams not in (None, usual_streams) else []
    return words
