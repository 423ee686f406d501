"""What the tests of the checks ask of findings."""

from __future__ import annotations

from collections.abc import Iterable

from engine.fleet import Fleet
from engine.resilience import Finding, Severity, find
from engine.settings import Settings
from tests.builders import NOW, make_settings


def findings(check: str, fleet: Fleet, settings: Settings | None = None) -> tuple[Finding, ...]:
    """All findings of one check, those that are OK too."""
    return tuple(each for each in find(settings or make_settings(), fleet, NOW) if each.check == check)


def flaws(check: str, fleet: Fleet, settings: Settings | None = None) -> tuple[Finding, ...]:
    """The findings of one check that are not OK."""
    return tuple(each for each in findings(check, fleet, settings) if each.severity is not Severity.OK)


def severities(found: Iterable[Finding]) -> dict[str, str]:
    """Severity by subject."""
    return {each.subject: each.severity.value for each in found}
