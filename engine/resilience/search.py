"""All checks, run over one scene, and their findings put in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from engine.fleet import Fleet
from engine.resilience.checks import (
    exposure_beyond_rpo,
    host_unreachable,
    no_agent,
    no_level,
    no_other_host,
    no_recovery_point,
    not_proven,
    one_copy_only,
    repository_damaged,
    repository_unreachable,
    shared_machine,
    shared_place,
)
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, lay_out
from engine.settings import Settings

_RUN: tuple[Callable[[Scene], Iterator[Finding]], ...] = (
    host_unreachable.check,
    repository_unreachable.check,
    repository_damaged.check,
    no_recovery_point.check,
    no_level.check,
    exposure_beyond_rpo.check,
    not_proven.check,
    shared_machine.check,
    one_copy_only.check,
    no_other_host.check,
    shared_place.check,
    no_agent.check,
)

CHECKS = (
    host_unreachable.CHECK,
    repository_unreachable.CHECK,
    repository_damaged.CHECK,
    no_recovery_point.CHECK,
    no_level.CHECK,
    exposure_beyond_rpo.CHECK,
    not_proven.CHECK,
    shared_machine.SAME_DEVICE,
    shared_machine.SAME_HOST,
    one_copy_only.CHECK,
    no_other_host.CHECK,
    shared_place.CHECK,
    no_agent.CHECK,
)
"""The ids of all checks, the gravest first: the order of findings of one severity."""

_SEVERITIES = tuple(Severity)


def find(settings: Settings, fleet: Fleet, now: datetime) -> tuple[Finding, ...]:
    """Return what all checks found, the worst first, with one finding for each check and subject."""
    scene = lay_out(settings, fleet, now)
    return in_order(finding for run in _RUN for finding in run(scene))


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings the worst first, of several for one check and subject only the worst."""
    worst: dict[tuple[str, str], Finding] = {}
    for finding in sorted(findings, key=_rank):
        worst.setdefault((finding.check, finding.subject), finding)
    return tuple(worst.values())


def _rank(finding: Finding) -> tuple[int, int, str]:
    return (_SEVERITIES.index(finding.severity), CHECKS.index(finding.check), finding.subject)
