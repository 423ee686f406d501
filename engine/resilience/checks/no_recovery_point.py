"""A VM that should have recovery points and has none."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import counted

CHECK = "no-recovery-point"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each VM with a level; VMs without one are `no-level`'s."""
    for vm in scene.vms:
        if vm.level is None:
            continue
        if vm.points:
            what = f"{vm.label} has {counted(len(vm.points), 'recovery point')}."
            yield Finding(CHECK, Severity.OK, vm.label, what, vms=(vm.uuid,))
        elif scene.silent_repositories:
            yield _cannot_tell(scene, vm)
        else:
            yield Finding(
                check=CHECK,
                severity=Severity.FAIL,
                subject=vm.label,
                what=f"{vm.label} has no recovery point.",
                why=f"If {vm.host} or its disks are lost, all of {vm.label} is lost.",
                evidence=(_looked_into(scene),),
                fix=_fix(scene, vm),
                vms=(vm.uuid,),
            )


def _cannot_tell(scene: Scene, vm: SceneVm) -> Finding:
    silent = [view.name for view in scene.silent_repositories]
    return Finding(
        check=CHECK,
        severity=Severity.UNKNOWN,
        subject=vm.label,
        what=f"Whether {vm.label} has a recovery point cannot be told: {', '.join(silent)} cannot be looked into.",
        why="Until then nothing can be restored of it.",
        evidence=(_looked_into(scene),),
        fix=tuple(view.next_step for view in scene.silent_repositories if view.next_step),
        vms=(vm.uuid,),
    )


def _looked_into(scene: Scene) -> str:
    readable = [view.name for view in scene.fleet.repositories if view.reachable]
    return f"looked into: {', '.join(readable)}" if readable else "looked into: no repository"


def _fix(scene: Scene, vm: SceneVm) -> tuple[str, ...]:
    if not scene.settings.repositories:
        return (
            f'add [repositories.NAME] with path = "/folder" to {scene.settings.file}, then `newhope repo init NAME`',
            f"then {vm.backup_command}",
        )
    if not vm.answers:
        return (f"bring {vm.host} back, then {vm.backup_command}",)
    return (vm.backup_command,)
