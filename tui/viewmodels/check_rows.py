"""What the checks found, worst first, and each finding's reason, evidence and way out."""

from __future__ import annotations

from engine.resilience import Finding, Severity
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import (
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    bare,
    labelled,
    line,
    quiet,
    strong,
)

_WORDS = {
    Severity.FAIL: Span("x FAIL", Tone.BAD),
    Severity.WARN: Span("! WARN", Tone.WARN),
    Severity.UNKNOWN: Span("? UNKN", Tone.WARN),
    Severity.OK: Span("+ OK", Tone.GOOD),
}
_ORDER = tuple(_WORDS)


def finding_key(finding: Finding) -> str:
    """What names a finding's row: one check may speak of many subjects."""
    return f"{finding.check}/{finding.subject}"


def counts_line(picture: Picture) -> Line:
    """How many of each."""
    severities = [finding.severity for finding in picture.findings]
    parts: list[Span] = []
    for severity, word in _WORDS.items():
        number = severities.count(severity)
        parts += [quiet(f"{bare(word)} "), Span(f"{number}   ", word.tone if number else Tone.QUIET)]
    return tuple(parts)


def finding_table(picture: Picture, width: int, *, wanted: str = "", faults_only: bool = True) -> Table:
    """Findings that the filter leaves."""
    columns = (
        Column("severity", "STATE", 7),
        Column("subject", "WHERE", 18),
        Column("what", "WHAT", width - 30, grows=True),
    )
    left = [
        finding
        for finding in picture.findings
        if (not faults_only or finding.severity is not Severity.OK)
        and all(word in f"{finding.title} {finding.subject} {finding.what}".lower() for word in wanted.lower().split())
    ]
    left.sort(key=lambda finding: (_ORDER.index(finding.severity), finding.check, finding.subject))
    rows = tuple(
        Row(finding_key(finding), (_WORDS[finding.severity], Span(finding.subject), Span(finding.what)))
        for finding in left
    )
    return Table(columns, rows, _why_none(picture, wanted))


def _why_none(picture: Picture, wanted: str) -> Block:
    if picture.fleet is None:
        return (line(strong("LOADING"), quiet("  the checks wait for the first answer of the hosts...")),)
    if wanted:
        return (line("No finding matches ", strong(wanted), "."), line(quiet("Esc clears the filter.")))
    if not picture.settings.hosts:
        return (line("There is nothing to check: no host is configured."), line(quiet("Next: newhope init")))
    return (line(Span("Nothing stands out.", Tone.GOOD)), line(quiet("f shows what was checked and is fine.")))


def finding_lines(finding: Finding | None, width: int) -> Block:
    """One finding in full."""
    if finding is None:
        return ()
    word = _WORDS[finding.severity]
    body = [*labelled(bare(word), finding.what, width, tone=word.tone)]
    if finding.why:
        body += labelled("WHY", finding.why, width)
    for number, fact in enumerate(finding.evidence):
        body += labelled("EVIDENCE" if number == 0 else "", fact, width, tone=Tone.QUIET)
    for number, step in enumerate(finding.fix):
        body += labelled("NEXT" if number == 0 else "", step, width, tone=Tone.STRONG)
    return (*body, *labelled("check", finding.title, width, tone=Tone.QUIET))
