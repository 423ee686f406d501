"""A VM's recovery points as letters in time: readable without colour, in ASCII, and aloud.

Each day (or hour) has the letter of its best recovery point. Letters, best first:

    o  the VM was off: everything was on disk
    m  its memory is kept: it goes on where it stood
    f  its file systems were frozen
    c  as after a power cut
    x  none, and a backup failed
    !  none, though the level asks for one in that time
    g  none of the VM, only files from inside its guest
    .  none

Behind the letter of a day: `+` one of its points was proven to boot, `-` it failed, `?` nobody could tell. What these
signs mean is told where there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo

from engine.jobs.model import Job, JobState
from engine.repository.model import Consistency, Point
from engine.repository.proofs import ProofMark, ProofOutcome
from tui.viewmodels.figures import local
from tui.viewmodels.text import Block, Line, Span, Tone, clipped, line, quiet

_LETTERS = {
    Consistency.OFF: "o",
    Consistency.MEMORY: "m",
    Consistency.FILESYSTEM: "f",
    Consistency.CRASH: "c",
    Consistency.FILES: "g",
}
_BEST_FIRST = "omfcx!g."
_TONES = {
    "o": Tone.GOOD,
    "m": Tone.GOOD,
    "f": Tone.GOOD,
    "c": Tone.PLAIN,
    "x": Tone.BAD,
    "!": Tone.WARN,
    "g": Tone.PLAIN,
    ".": Tone.QUIET,
}
_PROOF_SIGNS = {ProofOutcome.PROVEN: "+", ProofOutcome.FAILED: "-", ProofOutcome.OPEN: "?"}
_SIGN_TONES = {"+": Tone.GOOD, "-": Tone.BAD, "?": Tone.WARN}
_DAY_S, _HOUR_S = 86400, 3600

LEGEND: Line = line(quiet("o off  m memory  f frozen  c crash  x fail  ! missed  g files  . none"))
SIGNS_LEGEND: Line = line(quiet("behind a day's letter:  + proven to boot  - failed its proof  ? open"))


def strip(
    points: Iterable[Point],
    jobs: Iterable[Job],
    now: datetime,
    *,
    buckets: int,
    bucket_s: int,
    rpo_s: int | None,
    zone: tzinfo | None = None,
) -> str:
    """One letter a bucket (a day or an hour on the operator's clock), oldest first, the current one last."""
    letters = ["."] * buckets

    def mark(at: datetime, letter: str) -> None:
        place = buckets - 1 - _buckets_ago(at, now, bucket_s, zone)
        if 0 <= place < buckets and _BEST_FIRST.index(letter) < _BEST_FIRST.index(letters[place]):
            letters[place] = letter

    moments = [(point.manifest.moment, _LETTERS[point.manifest.consistency]) for point in points]
    of_vm = [at for at, letter in moments if letter != "g"]
    if of_vm and rpo_s is not None and rpo_s <= bucket_s:
        first = buckets - 1 - _buckets_ago(min(of_vm), now, bucket_s, zone)
        letters = ["!" if first < place < buckets - 1 else "." for place in range(buckets)]
    for at, letter in moments:
        mark(at, letter)
    for job in jobs:
        if job.kind == "backup" and job.state in (JobState.FAIL, JobState.LOST):
            mark(job.finished or job.created, "x")
    return "".join(letters)


def painted(letters: str, *, gap: str = "") -> Line:
    """The letters with their tones, runs of one letter in one span."""
    spans: list[Span] = []
    for place, letter in enumerate(letters):
        text = letter + (gap if place < len(letters) - 1 else "")
        if spans and spans[-1].tone is _TONES[letter]:
            spans[-1] = Span(spans[-1].text + text, spans[-1].tone)
        else:
            spans.append(Span(text, _TONES[letter]))
    return tuple(spans)


def timeline_lines(
    points: tuple[Point, ...],
    jobs: tuple[Job, ...],
    now: datetime,
    width: int,
    *,
    rpo_s: int | None,
    zone: tzinfo | None = None,
    proofs: Iterable[ProofMark] = (),
) -> Block:
    """Days with a scale above, then the last hours, then what the letters mean.

    Behind the letter of a day stands how the newest proof of a point of that day ended, if there was one.
    """
    label = 9
    days = min(60, (width - label - 2) // 2)
    hours = min(48, (width - label - 2) // 2)
    by_day = strip(points, jobs, now, buckets=days, bucket_s=_DAY_S, rpo_s=rpo_s, zone=zone)
    by_hour = strip(points, jobs, now, buckets=hours, bucket_s=_HOUR_S, rpo_s=rpo_s, zone=zone)
    signs = _proof_signs(points, proofs, now, days, zone)
    legends = (LEGEND, SIGNS_LEGEND) if signs else (LEGEND,)
    return (
        line(quiet(f"{f'{days} days':<{label}}"), quiet(_day_scale(now, days, zone))),
        (quiet(f"{'':<{label}}"), *_with_proofs(by_day, signs), quiet("|")),
        line(quiet(f"{f'{hours} hours':<{label}}"), quiet(_hour_scale(now, hours, zone))),
        (quiet(f"{'':<{label}}"), *painted(by_hour, gap=" "), quiet("|")),
        *(clipped(line(quiet(" " * label), *legend), width) for legend in legends),
    )


def _proof_signs(
    points: Iterable[Point], proofs: Iterable[ProofMark], now: datetime, days: int, zone: tzinfo | None
) -> dict[int, str]:
    """By place of the day of its point: how the newest proof of one of that day's points ended."""
    moments = {point.id: point.manifest.moment for point in points}
    signs: dict[int, str] = {}
    for mark in sorted(proofs, key=lambda proof: proof.at):
        if mark.point_id in moments:
            place = days - 1 - _buckets_ago(moments[mark.point_id], now, _DAY_S, zone)
            if place >= 0:
                signs[place] = _PROOF_SIGNS[mark.verdict.outcome]
    return signs


def _with_proofs(letters: str, signs: dict[int, str]) -> Line:
    """The letters of days, each with the sign of its proof behind it."""
    spans: list[Span] = []
    begun = 0
    for place in sorted(signs):
        spans += painted(letters[begun : place + 1], gap=" ")
        spans.append(Span(signs[place], _SIGN_TONES[signs[place]]))
        begun = place + 1
    return (*spans, *painted(letters[begun:], gap=" "))


def _buckets_ago(at: datetime, now: datetime, bucket_s: int, zone: tzinfo | None) -> int:
    if bucket_s == _DAY_S:
        return (local(now, zone).date() - local(at, zone).date()).days
    return int(now.timestamp() // bucket_s) - int(at.timestamp() // bucket_s)


def _day_scale(now: datetime, days: int, zone: tzinfo | None) -> str:
    return _scale(days, 7, lambda ago: f"{local(now, zone) - timedelta(days=ago):%m-%d}")


def _hour_scale(now: datetime, hours: int, zone: tzinfo | None) -> str:
    return _scale(hours, 6, lambda ago: f"{local(now - timedelta(hours=ago), zone):%H}h")


def _scale(buckets: int, every: int, name: Callable[[int], str]) -> str:
    text = [" "] * (buckets * 2 + 4)
    for ago in range(0, buckets, every):
        place = (buckets - 1 - ago) * 2
        label = "now" if ago == 0 else name(ago)
        text[place : place + len(label)] = label
    return "".join(text).rstrip()
