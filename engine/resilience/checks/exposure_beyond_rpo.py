"""A VM of which more would be lost now than its level accepts."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene
from engine.resilience.wording import age_in_words
from engine.settings import format_duration

CHECK = "exposure-beyond-rpo"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each VM with a level and a recovery point."""
    for vm in scene.vms:
        age_s = vm.age_s(scene.now)
        if vm.level is None or age_s is None:
            continue
        age, rpo = age_in_words(age_s), format_duration(vm.level.rpo_s)
        if age_s <= vm.level.rpo_s:
            what = f"The newest recovery point of {vm.label} is {age} old, of {rpo} allowed."
            yield Finding(CHECK, Severity.OK, vm.label, what, vms=(vm.uuid,))
            continue
        silent = [view.name for view in scene.silent_repositories]
        maybe_newer = (f"a newer one may be in {', '.join(silent)}, which cannot be looked into",) if silent else ()
        newest = vm.points[0]
        yield Finding(
            check=CHECK,
            severity=Severity.FAIL,
            subject=vm.label,
            what=f"The newest recovery point of {vm.label} is {age} old; its level {vm.level.name} allows {rpo}.",
            why=f"If {vm.host} were lost now, the last {age} of {vm.label} would be gone.",
            evidence=(
                f"newest: {newest.manifest.moment:%Y-%m-%d %H:%M} UTC, {newest.id} in {newest.repository}",
                f"late by {age_in_words(age_s - vm.level.rpo_s)}",
                *maybe_newer,
            ),
            fix=(vm.backup_command if vm.answers else f"bring {vm.host} back, then {vm.backup_command}",),
            vms=(vm.uuid,),
        )
