"""How an operator names a recovery point: `web@latest`, `web@-1`, `web@2026-11-22T08:13`, `web@a1b2c3`.

Files from inside a guest are recovery points of a kind of their own, which bring no VM back. `latest`, `-1` and times
mean those of the kind that is asked for; an id means its point, whatever it is.

Times are shown and read in local time; a trailing `Z` says UTC. A time may be cut anywhere (`2026-11-22`): the newest
point that begins with it is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from engine.errors import NotFound
from engine.repository.model import Point, PointKind

ID_PREFIX = re.compile(r"[0-9a-f]{4,16}")
BACKWARDS = re.compile(r"-[0-9]+")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?)?)?Z?")
NEAREST = 5
FORMS = "latest, -1 (the one before), a local time such as 2026-11-22T08:13, or the first digits of an id"


def parse_point_name(text: str) -> tuple[str, str]:
    """`web@latest` -> VM and selector. A VM alone means its latest point."""
    vm, at, selector = text.rpartition("@")
    if not at:
        vm, selector = text, "latest"
    if not vm or not selector:
        raise NotFound(f"{text!r} does not name a recovery point.", next_step=f"Write VM@SELECTOR, with {FORMS}.")
    return vm, selector


def select_point(points: Sequence[Point], selector: str, kind: PointKind = PointKind.VM) -> Point:
    """The one point of a kind that a selector means among a VM's points, in whatever order they come."""
    every_copy = sorted(points, key=lambda point: point.manifest.moment, reverse=True)
    newest_first = one_of_each(of_kind(every_copy, kind))
    if not newest_first and not (every_copy and ID_PREFIX.fullmatch(selector.lower())):
        raise _none_to_choose(every_copy, kind)
    if selector == "latest":
        return newest_first[0]
    if BACKWARDS.fullmatch(selector):
        return _backwards(newest_first, selector)
    if TIME.fullmatch(selector):
        return _at_time(newest_first, selector)
    if ID_PREFIX.fullmatch(selector.lower()):
        return _by_id(every_copy, selector.lower())
    raise NotFound(f"{selector!r} does not name a recovery point.", next_step=f"Use {FORMS}.")


def of_kind(points: Iterable[Point], kind: PointKind) -> tuple[Point, ...]:
    """The points of one kind."""
    return tuple(point for point in points if point.manifest.kind is kind)


def _none_to_choose(others: Sequence[Point], kind: PointKind) -> NotFound:
    if not others:
        return NotFound("There is no recovery point to choose from.", next_step="Make one: newhope backup VM.")
    vm, nearest = others[0].manifest.vm.name, _listed(others[:NEAREST])
    if kind is PointKind.VM:
        return NotFound(
            f"{vm} has no recovery point that brings the VM back, only files of its guest.",
            next_step=f"Make one: newhope backup {vm}. The files are in: {nearest}; newhope files reads them.",
        )
    return NotFound(
        f"{vm} has no recovery point of files from inside its guest.",
        next_step=f"Make one: newhope backup {vm} --guest-files.",
    )


def one_of_each(points: Sequence[Point]) -> list[Point]:
    """The points without those that are copies of, or have a copy, earlier in the row; what a copy was made of wins."""
    chosen: dict[tuple[str, str], Point] = {}
    for point in points:
        same = point.manifest.vm.uuid, point.original_id
        if same not in chosen or (chosen[same].manifest.origin and not point.manifest.origin):
            chosen[same] = point
    return list(chosen.values())


def local_time(moment: datetime) -> str:
    """A moment as operators read and write it: local, to the second."""
    return moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S")


def _backwards(newest_first: list[Point], selector: str) -> Point:
    steps = -int(selector)
    if steps < len(newest_first):
        return newest_first[steps]
    raise NotFound(
        f"There is no point {steps} before the latest: there are {len(newest_first)}.",
        next_step=f"Choose one of: {_listed(newest_first[-NEAREST:])}.",
    )


def _at_time(newest_first: list[Point], selector: str) -> Point:
    wanted = selector.replace(" ", "T")
    for point in newest_first:
        if _time_like(point.manifest.moment, wanted).startswith(wanted.removesuffix("Z")):
            return point
    nearest = sorted(newest_first, key=lambda point: _distance(point.manifest.moment, wanted))
    raise NotFound(
        f"There is no recovery point at {selector}.",
        next_step=f"The nearest are: {_listed(nearest[:NEAREST])}.",
    )


def _by_id(newest_first: list[Point], prefix: str) -> Point:
    # The id of a point is good for its copies too: it may be all that somebody wrote down.
    found = [point for point in newest_first if point.id.startswith(prefix)]
    found = found or one_of_each([point for point in newest_first if point.original_id.startswith(prefix)])
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(
            f"{len(found)} recovery points have ids that begin with {prefix}.",
            next_step=f"Give more digits: {_listed(found[:NEAREST])}.",
        )
    raise NotFound(
        f"No recovery point has an id that begins with {prefix}.",
        next_step=f"The newest are: {_listed(newest_first[:NEAREST])}.",
    )


def _time_like(moment: datetime, wanted: str) -> str:
    if wanted.endswith("Z"):
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return local_time(moment)


def _distance(moment: datetime, wanted: str) -> timedelta:
    text = wanted.removesuffix("Z") + "0000-01-01T00:00:00"[len(wanted.removesuffix("Z")) :]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return timedelta(0)
    return abs(moment - (time.replace(tzinfo=UTC) if wanted.endswith("Z") else time.astimezone()))


def _listed(points: Sequence[Point]) -> str:
    return ", ".join(f"{local_time(point.manifest.moment)} ({point.id[:6]})" for point in points)
