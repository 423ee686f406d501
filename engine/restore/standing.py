"""What a restore waits for, and what settling it would do, in the words that command line and console share."""

from __future__ import annotations

from msgspec import Struct

from engine.restore.journal import Entry, Phase


class Standing(Struct, frozen=True):
    """Where a restore stands, given whether its job lives."""

    word: str
    """Its phase, or `interrupted`."""
    next_step: str
    """What to type; empty if nothing can be done with it any more."""
    interrupted: bool = False
    """Its job died in the middle of it."""
    resumes: bool = False
    commits: bool = False
    undoes: bool = False


def standing(entry: Entry, *, alive: bool) -> Standing:
    """Where a restore stands; `alive` says whether the job that worked on it last still does."""
    phase, identity = entry.phase, entry.id
    if phase.over:
        return Standing(phase.value, "")
    if phase is Phase.KEPT:
        how = f"newhope restores commit {identity}, or undo {identity}"
        return Standing(phase.value, how, commits=True, undoes=True)
    if alive:
        return Standing(phase.value, f"newhope jobs follow {entry.job_id}")
    if phase is Phase.UNDER_WAY:
        how = f"newhope restores resume {identity}, or undo {identity}"
        return Standing("interrupted", how, interrupted=True, resumes=True, undoes=True)
    undoing = phase is Phase.UNDOING
    how = f"newhope restores {'undo' if undoing else 'commit'} {identity}"
    return Standing("interrupted", how, interrupted=True, undoes=undoing, commits=not undoing)


def undo_means(entry: Entry) -> tuple[str, ...]:
    """What taking a restore back does, a sentence each."""
    request = entry.request
    said: list[str] = []
    if request.defines:
        said.append(f"VM {request.name} on {request.to_host} is switched off and removed.")
    said += [f"Volume {made.name} in pool {made.pool} is deleted." for made in entry.made]
    if entry.phase is Phase.KEPT:
        said.append("What was written in the VM since the restore is lost with it.")
    if request.aside is not None:
        said.append(f"{request.aside.kept_name} on {request.aside.host} becomes {request.aside.name} again.")
    return tuple(said)


def commit_means(entry: Entry) -> tuple[str, ...]:
    """What keeping a restore for good does, a sentence each, where the original is left alone."""
    aside = entry.request.aside
    if aside is None:
        return ()
    return (f"{aside.kept_name} stays on {aside.host}, off; nothing puts it back by itself any more.",)
