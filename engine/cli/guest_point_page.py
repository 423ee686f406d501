"""A recovery point of kind guest on the terminal: what it holds, how it was read, what commands and tar had to say."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli import printing
from engine.cli.wording import count, local, since, size, took
from engine.repository import GuestCommand, GuestFiles, Point


def show_guest_point(point: Point, kept: GuestFiles, homes: Sequence[str], verified: str) -> None:
    """Print it. `homes`: repositories with a copy."""
    manifest = point.manifest
    vm = manifest.vm
    copy_of = [f"{vm.name}@{manifest.origin.point}, made in another repository"] if manifest.origin else []
    printing.show_facts(
        [
            ("point", f"{vm.name}@{point.id} in {point.repository}"),
            *(("copy of", each) for each in copy_of),
            ("kind", "guest: files from inside the guest; no VM comes back from it"),
            ("moment", f"{local(manifest.moment)}, {since(manifest.moment)} ago: {manifest.consistency_note}"),
            ("vm", f"{vm.name} ({vm.uuid}) on {vm.host}"),
            (
                "files",
                f"{count(kept.entries, 'entry', 'entries')}, {size(kept.size_bytes)}, of {', '.join(kept.paths)}",
            ),
            ("read", f"{kept.way}, as [guest_files.{kept.section}] says"),
            ("added", f"{size(manifest.new_bytes)} new in the repository"),
            *(("ran", f"{each.command} ({_ending(each)}, {took(each.seconds)})") for each in kept.commands),
            *(("tar said", note) for note in kept.notes),
            ("copies", f"{len(homes)}: {', '.join(homes)}"),
            ("verified", verified),
            ("written by", f"{manifest.writer}, finished {local(manifest.finished)}"),
        ]
    )
    printing.say()
    printing.say(f"Its files: newhope files {vm.name}@{point.id[:8]}")


def _ending(command: GuestCommand) -> str:
    if not command.exit_code:
        return "well"
    said = " ".join(command.output.split())[-200:]
    return f"exit status {command.exit_code}: {said or 'it wrote nothing'}"
