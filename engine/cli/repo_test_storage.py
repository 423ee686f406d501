"""`newhope repo test-storage`: whether a folder or bucket keeps what the repository format relies on."""

from __future__ import annotations

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode


@click.command("test-storage", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.pass_obj
def test_storage(invocation: Invocation, name: str | None) -> ExitCode:
    """Try out the place of the repository NAME (the first of the settings, if none is named).

    NAME may also be a folder or an s3:// address. The place need not be a repository yet; writers may be at work.
    Everything the test creates lies below probe/ and is deleted again.

    \b
    Exit status: 0 fit for a repository, 6 not reachable, 13 something that is needed fails.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.table import bad, doubtful, good, unknown
    from engine.repository import Verdict, try_storage
    from engine.settings import find_repository

    location = name if name is not None and "/" in name else find_repository(invocation.settings, name).location
    found = try_storage(location)
    if invocation.json:
        printing.show_json({"storage": plain(found), "fit": found.fit})
    else:
        printing.say(f"Tried {found.location}:")
        states = {
            Verdict.HOLDS: good("HOLDS"),
            Verdict.FAILS: bad("FAILS"),
            Verdict.UNKNOWN: unknown("UNKNOWN"),
            Verdict.UNTRIED: bad("UNTRIED"),
        }
        for check in found.checks:
            state = states[check.verdict] if check.needed or check.verdict is Verdict.HOLDS else doubtful("LACKS")
            printing.say(f"{state.text:<10} {check.name:<17} {check.evidence}")
        printing.say("Fit for a repository." if found.fit else "Not fit for a repository: do not keep one there.")
    return ExitCode.OK if found.fit else ExitCode.FINDINGS
