"""What `newhope repo info` says of a repository beyond its sizes: who is at work, how sound it is, what stays in it."""

from __future__ import annotations

from engine.cli.wording import count, local, since
from engine.repository import RepositoryInfo, VerificationState
from engine.settings import Keep, Settings

Facts = list[tuple[str, str]]


def at_work(info: RepositoryInfo) -> Facts:
    """Leases that are held now."""
    return [("writers now", str(info.writers)), ("collecting now", "yes" if info.collectors else "no")]


def soundness(state: VerificationState) -> Facts:
    """What was verified, and how long ago."""
    if state.last is None:
        newest = "never to its end"
    else:
        outcome = f"{count(state.last.damaged, 'finding')}" if state.last.damaged else "sound"
        newest = (
            f"{state.last.extent.value}, {since(state.last.finished)} ago ({local(state.last.finished)}): {outcome}"
        )
    facts = [("verified", newest)]
    if state.interrupted is not None:
        facts.append(("", f"a full one that began {local(state.interrupted)} was interrupted; --full goes on with it"))
    oldest = f"; of the others, the oldest {since(state.oldest)} ago" if state.oldest is not None else ""
    facts.append(("never read", f"{state.never_read} of {count(state.packs, 'pack')}{oldest}"))
    return facts


def retention(settings: Settings, guarded: int) -> Facts:
    """What the levels keep, and how many points stay whatever they say."""
    rules = [f"{level.name}: {_rules(level.keep)}" for level in settings.levels]
    return [("keeps", "; ".join(rules) or "everything: no level says otherwise"), ("guarded", _guarded(guarded))]


def _rules(keep: Keep | None) -> str:
    if keep is None:
        return "all points"
    counts = {
        "last": keep.last,
        "hourly": keep.hourly,
        "daily": keep.daily,
        "weekly": keep.weekly,
        "monthly": keep.monthly,
        "yearly": keep.yearly,
    }
    return ", ".join(f"{name} {number}" for name, number in counts.items() if number) or "the newest point"


def _guarded(number: int) -> str:
    return f"{count(number, 'recovery point')} pinned or protected"
