"""`newhope check`: what would be lost, and why, before it is lost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.resilience import Finding

ORDER = ("fail", "warn", "unknown", "ok")


@click.command("check", cls=Command)
@click.argument("subject", required=False, metavar="[NAME]")
@click.option("--all", "every", is_flag=True, help="Show what is as it should be, too.")
@click.pass_obj
def check(invocation: Invocation, subject: str | None, every: bool) -> ExitCode:
    """Look for what would make a loss: missing or old recovery points, single points of failure, dead hosts.

    Each finding says what, why it matters, the evidence, and the fix. The exit status is 13 if anything fails, so
    that a timer can tell. NAME: only findings about this VM, host or repository.

    \b
    Examples:
      newhope check
      newhope check db-1 --all
    """
    from datetime import UTC, datetime

    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.resilience import find

    fleet = invocation.fleet()
    findings = find(invocation.settings, fleet, datetime.now(UTC))
    if subject:
        findings = tuple(finding for finding in findings if finding.subject == subject)
    counted = Counter(str(finding.severity) for finding in findings)
    if invocation.json:
        counts = {word: counted[word] for word in ORDER}
        printing.show_json({"findings": [plain(finding) for finding in findings], **counts})
    else:
        _show(sorted(findings, key=_rank), counted, every=every)
    return ExitCode.FINDINGS if counted["fail"] else ExitCode.OK


def _rank(finding: Finding) -> int:
    word = str(finding.severity)
    return ORDER.index(word) if word in ORDER else len(ORDER)


def _show(findings: Sequence[Finding], counted: Counter[str], *, every: bool) -> None:
    from engine.cli import printing, states

    for finding in findings:
        state = states.of_check(str(finding.severity))
        if str(finding.severity) == "ok":
            if every:
                printing.say(f"{state.text:<7} {finding.subject}: {finding.what}")
            continue
        printing.say(f"{state.text:<7} {finding.subject}: {finding.what}")
        for label, text in (("why", finding.why), ("evidence", finding.evidence), ("fix", finding.fix)):
            for line in _lines(text):
                printing.say(f"        {label:<8}  {line}")
    if not findings:
        printing.say("There was nothing to look at.")
    summary = ", ".join(f"{counted[word]} {states.of_check(word).word}" for word in ORDER)
    printing.say(f"{summary}." + ("" if every or not counted["ok"] else " `--all` shows those that are OK."))


def _lines(text: str | Sequence[str]) -> list[str]:
    several = [text] if isinstance(text, str) else list(text)
    return [line for each in several for line in each.splitlines() if line]
