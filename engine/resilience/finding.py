"""A finding, and how findings are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Severity(StrEnum):
    """How much a finding asks for, the most first."""

    FAIL = "fail"
    WARN = "warn"
    UNKNOWN = "unknown"
    """It could not be told; the finding says what to do so that it can."""
    OK = "ok"


class Finding(Struct, frozen=True):
    """One answer of a check."""

    check: str
    """Stable id of the check that found it: `one-copy-only`."""
    severity: Severity
    subject: str
    """The VM, host, repository or place that it is about."""
    what: str
    """One sentence."""
    why: str = ""
    """Why it matters, in one sentence."""
    evidence: tuple[str, ...] = ()
    """The facts that it rests on, a short line each."""
    fix: tuple[str, ...] = ()
    """What to do, a line each: a command in backquotes, or a sentence."""
    vms: tuple[str, ...] = ()
    """UUIDs of the VMs it concerns."""
    names: tuple[str, ...] = ()
    """Names of the other VMs, hosts and repositories it concerns, besides the subject."""

    @property
    def title(self) -> str:
        """The check's id as words."""
        return self.check.replace("-", " ")


def concerning(findings: Iterable[Finding], name: str) -> tuple[Finding, ...]:
    """Return the findings about a VM, host or repository of that name, or about a VM of that UUID."""
    return tuple(
        finding for finding in findings if name == finding.subject or name in finding.names or name in finding.vms
    )


class Counts(Struct, frozen=True):
    """How many findings there are of each severity."""

    fail: int = 0
    warn: int = 0
    unknown: int = 0
    ok: int = 0


def count(findings: Iterable[Finding]) -> Counts:
    """Return how many of the findings there are of each severity."""
    counted = Counter(finding.severity for finding in findings)
    return Counts(
        fail=counted[Severity.FAIL],
        warn=counted[Severity.WARN],
        unknown=counted[Severity.UNKNOWN],
        ok=counted[Severity.OK],
    )
