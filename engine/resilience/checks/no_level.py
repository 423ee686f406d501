"""A VM that no level is for: nobody said how much of it may be lost."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene
from engine.resilience.wording import age_in_words

CHECK = "no-level"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each VM."""
    for vm in scene.vms:
        if vm.level is not None:
            yield Finding(CHECK, Severity.OK, vm.label, f"{vm.label} has the level {vm.level.name}.", vms=(vm.uuid,))
            continue
        age_s = vm.age_s(scene.now)
        if age_s is None and not scene.silent_repositories:
            severity, state = Severity.FAIL, "and no recovery point"
        elif age_s is None:
            severity, state = Severity.WARN, "and no recovery point in any repository that can be read"
        else:
            severity, state = Severity.WARN, f"; its newest recovery point is {age_in_words(age_s)} old"
        levels = ", ".join(level.name for level in scene.settings.levels) or "none"
        yield Finding(
            check=CHECK,
            severity=severity,
            subject=vm.label,
            what=f"{vm.label} has no level{'' if state.startswith(';') else ' '}{state}.",
            why="Without a level nothing tells how old its newest recovery point may get, so nothing warns in time.",
            evidence=(f"levels in {scene.settings.file}: {levels}; none matches the name {vm.name}",),
            fix=(
                f'add "{vm.name}" to the vms of a level in {scene.settings.file}',
                "or give one level default = true, so that no VM is forgotten",
            ),
            vms=(vm.uuid,),
        )
