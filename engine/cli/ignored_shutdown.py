"""A guest that ignores its shutdown is never switched off: whoever sits at the terminal says what is done."""

from __future__ import annotations

import click

from engine.backup import Request, WhatNow, shutdown_was_ignored, ways_on
from engine.cli import printing
from engine.cli.following import watch
from engine.cli.invocation import Invocation
from engine.cli.launching import launch_backup
from engine.errors import ExitCode
from engine.jobs import Job, Journal


def watch_or_ask(invocation: Invocation, journal: Journal, job: Job, request: Request) -> ExitCode:
    """Follow the backup to its end; as long as its guest does not shut down, ask, and start what was chosen."""
    while True:
        code = watch(invocation, journal, job.id)
        if not shutdown_was_ignored(request, code) or not invocation.can_ask:
            return code
        chosen = _ask(request)
        if chosen is None:
            return code
        request = chosen
        job = launch_backup(invocation.settings, journal, request)


def _ask(request: Request) -> Request | None:
    ways = {way.answer.value: way for way in ways_on(request)}
    for word, way in ways.items():
        printing.say(f"  {word:<4}  {way.means}")
    return ways[click.prompt("What now?", type=click.Choice(list(ways)), default=WhatNow.STOP.value)].request
