"""`newhope demo`: the whole of newhope once, on practice hosts, with real guests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from engine.cli.commands import Command


@click.command("demo", cls=Command)
@click.option("--headless", is_flag=True, help="Tell the main job as a story, without a console.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder of the lab.")
def demo(headless: bool, folder: Path | None) -> None:
    """Start the practice hosts, give their VMs some history, and open the console on them.

    With --headless: back up every VM, those that run while they write; restore one to another host; boot it, ask its
    agent, and compare its data byte for byte with what the guest had acknowledged. Exit status 0 only if all of that
    happened. The lab stays up for the next time; `newhope lab down` removes it.
    """
    from engine.cli import demo_story

    if headless:
        demo_story.tell_main_job(folder)
        return
    settings_file = demo_story.prepare_history(folder)
    sys.stdout.flush()
    command = str(Path(sys.executable).with_name("newhope"))
    os.execv(command, [command, "--config", str(settings_file)])  # noqa: S606 - our own command
