"""A guest that ignores its shutdown is never switched off: whoever sits at the terminal says what is done."""

from __future__ import annotations

import click
from msgspec.structs import replace

from engine.backup import Request
from engine.cli import printing
from engine.cli.following import watch
from engine.cli.invocation import Invocation
from engine.cli.launching import launch_backup
from engine.errors import ExitCode
from engine.jobs import Job, Journal
from engine.settings import Method
from engine.settings.duration import format_duration

_WAIT, _HOT, _STOP = "wait", "hot", "stop"


def watch_or_ask(invocation: Invocation, journal: Journal, job: Job, request: Request) -> ExitCode:
    """Follow the backup to its end; as long as its guest does not shut down, ask, and start what was chosen."""
    while True:
        code = watch(invocation, journal, job.id)
        # All that a guest can refuse to do for a cold backup is to shut down; with hot_if_ignored it was taken hot.
        ignored = code is ExitCode.GUEST and request.method is Method.COLD and not request.hot_if_ignored
        if not ignored or not invocation.can_ask:
            return code
        chosen = _ask(request)
        if chosen is None:
            return code
        request = chosen
        job = launch_backup(invocation.settings, journal, request)


def _ask(request: Request) -> Request | None:
    longer = replace(request, shutdown_timeout_s=2 * request.shutdown_timeout_s)
    printing.say(f"  wait  ask {request.vm} again, and wait up to {format_duration(longer.shutdown_timeout_s)}")
    printing.say("  hot   take it now, while it runs: no downtime; its file systems are frozen, if its agent does so")
    printing.say("  stop  make no recovery point")
    answer = click.prompt("What now?", type=click.Choice([_WAIT, _HOT, _STOP]), default=_STOP)
    if answer == _HOT:
        return replace(request, method=Method.HOT)
    return longer if answer == _WAIT else None
