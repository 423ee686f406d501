"""The `newhope` command itself: options, the list of commands, and the one place where failures end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from engine.cli.commands import CommandSource, LazyGroup
from engine.cli.failures import answer_of
from engine.cli.invocation import Invocation
from engine.errors import ExitCode


def _source(module: str, name: str, short_help: str, *, hidden: bool = False) -> CommandSource:
    return CommandSource(f"engine.cli.{module}", name, short_help, hidden)


SOURCES = {
    "init": _source("init", "init", "Write a first settings file for this machine."),
    "doctor": _source("doctor", "doctor", "What this machine needs, and how hosts are; --repair: what dead jobs left."),
    "hosts": _source("hosts", "hosts", "Hosts and whether they answer."),
    "vms": _source("vms", "vms", "VMs, their state, and the age of their newest recovery point."),
    "repo": _source("repo", "repo", "Create a repository, look at one, or test its storage."),
    "backup": _source("backup", "backup", "Make a recovery point of a VM, or of all."),
    "schedule": _source("schedule", "schedule", "Back up by itself: install a systemd timer, see it, remove it."),
    "points": _source("points", "points", "Recovery points: list them, or show one."),
    "files": _source("files", "files", "Files in a recovery point: list them, get them, put them back."),
    "restore": _source("restore", "restore", "Bring a VM back on a host of your choice."),
    "prove": _source("prove", "prove", "Boot a recovery point isolated, ask it, keep the answer."),
    "serve": _source("serve", "serve", "A point's disks over NBD, read-only, for any other tool."),
    "restores": _source("restores", "restores", "Interrupted restores, and those that can be undone or committed."),
    "check": _source("check", "check", "What would be lost, and why: findings with their fix."),
    "jobs": _source("jobs", "jobs", "What is running and what came of it; follow, cancel."),
    "lab": _source("lab", "lab", "Practice hosts with real VMs, on this machine."),
    "demo": _source("demo", "demo", "The whole of newhope once, on practice hosts."),
    "run-job": _source("run_job", "run_job", "Do the work of a job (started by the others).", hidden=True),
}

EXIT_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.DEFECT: "a defect in newhope; the message names a file to report",
    ExitCode.USAGE: "the command line was not understood, or nobody was there to confirm",
    ExitCode.SETTINGS: "the settings file is wrong or missing",
    ExitCode.HOST_UNREACHABLE: "a host does not answer",
    ExitCode.NOT_FOUND: "no host, VM, recovery point, repository or job of that name",
    ExitCode.REPOSITORY: "a repository is missing, damaged, locked or not readable",
    ExitCode.CONFLICT: "something else is at work on the same thing",
    ExitCode.NO_SPACE: "a file system or pool is full",
    ExitCode.PREFLIGHT: "a check before a restore failed, or a warning was not accepted by name; nothing was touched",
    ExitCode.GUEST: "the guest or its agent did not do as asked",
    ExitCode.FAILED: "the work failed; the message says what is untouched",
    ExitCode.MISSING_PACKAGE: "a program of the operating system is missing",
    ExitCode.FINDINGS: "`check`, `repo test-storage` or `doctor` found something",
    ExitCode.CANCELLED: "the job was cancelled",
    ExitCode.LOST: "the job's process was killed",
    ExitCode.INTERRUPTED: "Ctrl-C; a job that was followed goes on",
}

EPILOG = "\b\nExit status (any other: read it as a failure):\n" + "\n".join(
    f"  {code.value:>3}  {meaning}" for code, meaning in EXIT_MEANINGS.items()
)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"newhope {version('newhope')}")
    context.exit()


@click.group(
    cls=LazyGroup,
    sources=SOURCES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@click.pass_context
def newhope(context: click.Context) -> None:
    """Bring virtual machines back: backup and restore for libvirt/QEMU hosts.

    \b
    When something is broken, these three:
      newhope vms                                what runs where, how old its backup is
      newhope points web                         the recovery points of VM web
      newhope restore web@latest --to HOST       shows the plan, asks, brings it back

    \b
    With nothing left but a repository and its passphrase, on an empty machine, first:
      newhope init --repository PLACE            a folder or s3://BUCKET/PREFIX; --host adds hosts

    Nothing is changed before its plan was shown and confirmed. Long work runs as a job that
    goes on when this terminal dies; `newhope jobs` shows it.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name); answers the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # Not `newhope.main`: it ends the process by itself when a reader goes away.
        with newhope.make_context("newhope", list(arguments), obj=Invocation()) as context:
            code = newhope.invoke(context)
        sys.stdout.flush()
    except BaseException as error:
        return answer_of(error, arguments)
    return code if isinstance(code, int) else ExitCode.OK
