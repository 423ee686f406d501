"""`newhope check`: what would be lost, and why, before it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.resilience import Counts, Finding


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
    from engine.resilience import concerning, count, find

    fleet = invocation.fleet()
    findings = find(invocation.settings, fleet, datetime.now(UTC))
    if subject:
        findings = concerning(findings, subject)
    counts = count(findings)
    if invocation.json:
        printing.show_json({"findings": [plain(finding) for finding in findings], **plain(counts)})
    else:
        _show(findings, counts, every=every)
    return ExitCode.FINDINGS if counts.fail else ExitCode.OK


def _show(findings: Sequence[Finding], counts: Counts, *, every: bool) -> None:
    from engine.cli import printing, states

    for finding in findings:
        state = states.of_check(finding.severity.value)
        fine = finding.severity.value == "ok"
        if every or not fine:
            printing.say(f"{state.text:<7} {finding.subject}: {finding.what}")
        if fine:
            continue
        for label, texts in (("why", (finding.why,)), ("evidence", finding.evidence), ("fix", finding.fix)):
            for text in texts:
                if text:
                    printing.say(f"        {label:<8}  {text}")
    if not findings:
        printing.say("There was nothing to look at.")
    summary = f"{counts.fail} FAIL, {counts.warn} WARN, {counts.unknown} UNKN, {counts.ok} OK."
    printing.say(summary + (" `--all` shows those that are OK." if counts.ok and not every else ""))
