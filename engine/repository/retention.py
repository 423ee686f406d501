"""Which recovery points a policy keeps, and why. Pure: points in, a decision for each out.

Every rule looks at all points of a VM by itself: `daily = 14` keeps the newest point of each of the last fourteen days
that have one. Days without a point do not count, so that a VM that was off for a month keeps what it had. A point may
be kept by several rules, and all of them are named.

Whatever the policy says, the newest usable point of a VM is kept, and every point that is pinned or protected. Points
of a VM and points of files in its guest never stand for each other: every rule looks at each kind by itself.

Days, weeks (Monday to Sunday, ISO 8601), months and years are those of UTC: two machines with different time zones must
not disagree about a point, or each would drop what the other keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from engine.repository.model import Point, PointKind, VmFacts


class KeepRules(Struct, frozen=True):
    """How many points are kept of the last ones, and of the last hours, days, ... that have one."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


class Decision(Struct, frozen=True):
    """What becomes of a point."""

    point: Point
    keep: bool
    reasons: tuple[str, ...]
    """At least one."""


Period = Callable[[datetime], str]
PERIODS: tuple[tuple[str, Period], ...] = (
    ("hourly", lambda moment: f"{moment:%Y-%m-%d %H:00}"),
    ("daily", lambda moment: f"{moment:%Y-%m-%d}"),
    ("weekly", lambda moment: f"{moment:%G-W%V}"),
    ("monthly", lambda moment: f"{moment:%Y-%m}"),
    ("yearly", lambda moment: f"{moment:%Y}"),
)
"""Each rule, and the name of the period of a moment in UTC."""


def decide(
    points: Iterable[Point],
    rules_for: Callable[[VmFacts], KeepRules | None],
    guarded: Mapping[str, tuple[str, ...]],
    unusable: Collection[str] = frozenset(),
) -> tuple[Decision, ...]:
    """A decision for every point, VM by VM (by name), newest first.

    `rules_for` gives the rules of a VM, None where everything is kept; a VM is as its newest point has it. `guarded`
    says by point id why a point must stay. `unusable` are ids of points that are known not to restore.
    """
    by_vm: dict[tuple[str, PointKind], list[Point]] = {}
    for point in sorted(points, key=_in_time, reverse=True):
        by_vm.setdefault((point.manifest.vm.uuid, point.manifest.kind), []).append(point)
    several = sorted(
        by_vm.items(), key=lambda item: (item[1][0].manifest.vm.name, item[0][0], item[0][1] is PointKind.GUEST)
    )
    return tuple(
        decision
        for _, of_vm in several
        for decision in _decide_vm(of_vm, rules_for(of_vm[0].manifest.vm), guarded, unusable)
    )


def kept_by(rules: KeepRules, moments: Iterable[datetime]) -> list[list[str]]:
    """For moments from the newest to the oldest: which rules keep each, as `last 2 of 7` or `daily 2026-11-22`."""
    reasons: list[list[str]] = []
    seen: dict[str, set[str]] = {name: set() for name, _ in PERIODS}
    counts = {name: int(getattr(rules, name)) for name, _ in PERIODS}
    for number, moment in enumerate(moments, 1):
        found = [f"last {number} of {rules.last}"] if number <= rules.last else []
        for name, period_of in PERIODS:
            period = period_of(moment.astimezone(UTC))
            if period not in seen[name] and len(seen[name]) < counts[name]:
                seen[name].add(period)
                found.append(f"{name} {period}")
        reasons.append(found)
    return reasons


def _decide_vm(
    newest_first: list[Point],
    rules: KeepRules | None,
    guarded: Mapping[str, tuple[str, ...]],
    unusable: Collection[str],
) -> Iterable[Decision]:
    usable = [point for point in newest_first if point.id not in unusable]
    newest = usable[0].id if usable else None
    # A point that does not restore must not take the place of one that does.
    by_rules = kept_by(rules or KeepRules(), (point.manifest.moment for point in usable))
    reasons_of = {point.id: reasons for point, reasons in zip(usable, by_rules, strict=True)}
    for point in newest_first:
        reasons = list(reasons_of.get(point.id, ()))
        if point.id == newest:
            of_its_kind = " with files of its guest" if point.manifest.kind is PointKind.GUEST else ""
            reasons.insert(0, f"the newest usable point of this VM{of_its_kind}")
        if newest is None:
            reasons.append("no point of this VM is usable, so none is dropped")
        if rules is None:
            reasons.append("its level has no keep rules")
        reasons += guarded.get(point.id, ())
        yield Decision(point, bool(reasons), tuple(reasons) or (_why_not(point, unusable),))


def _why_not(point: Point, unusable: Collection[str]) -> str:
    return "it is not usable, and a newer one is" if point.id in unusable else "no rule keeps it"


def _in_time(point: Point) -> tuple[datetime, str]:
    return point.manifest.moment, point.id
