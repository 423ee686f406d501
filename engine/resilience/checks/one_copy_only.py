"""Fewer copies of a VM's newest recovery point than its level wants, or one repository that holds everything."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import counted

CHECK = "one-copy-only"


def check(scene: Scene) -> Iterator[Finding]:
    """A finding for each VM with a level and a recovery point; one for a repository that is the only one."""
    only = scene.fleet.repositories[0] if len(scene.fleet.repositories) == 1 else None
    leaning = [vm for vm in scene.vms if vm.points and (vm.level is None or vm.level.copies == 1)]
    for vm in scene.vms:
        if vm.level is None or not vm.homes:
            continue
        copies = counted(len(vm.homes), "copy")
        if len(vm.homes) < vm.level.copies:
            yield _too_few(scene, vm, copies)
        elif only is None:
            what = f"{vm.label} has {copies} as good as its newest recovery point, {vm.level.copies} wanted."
            yield Finding(CHECK, Severity.OK, vm.label, what, vms=(vm.uuid,))
    if only is not None and leaning:
        held = len(leaning)
        yield Finding(
            check=CHECK,
            severity=Severity.WARN,
            subject=only.name,
            what=f"{only.name} is the only repository: {counted(held, 'VM')} "
            f"{'leans' if held == 1 else 'lean'} on one copy.",
            why=f"If {only.name} is lost, nothing can be restored any more.",
            evidence=(
                f"path: {only.path}",
                f"{counted(len(scene.fleet.points), 'recovery point')}, all in {only.name}",
            ),
            fix=_second_repository(scene),
            vms=tuple(vm.uuid for vm in leaning),
            names=tuple(vm.label for vm in leaning),
        )


def _too_few(scene: Scene, vm: SceneVm, copies: str) -> Finding:
    wanted = vm.level.copies if vm.level else 1
    level = vm.level.name if vm.level else ""
    silent = scene.silent_repositories
    may_be_enough = len(vm.homes) + len(silent) >= wanted
    holding = ", ".join(view.name for view in vm.homes)
    evidence = [f"in {holding}: {vm.points[0].manifest.moment:%Y-%m-%d %H:%M} UTC or as good"]
    evidence += [f"{view.name} cannot be looked into" for view in silent]
    others = [view.name for view in scene.fleet.repositories if view.reachable and view.name not in holding.split(", ")]
    fix = tuple(view.next_step for view in silent if view.next_step)
    if not may_be_enough and others:
        fix += (f"{vm.backup_command.removesuffix('`')} --repository {others[0]}`",)
    elif not may_be_enough:
        fix += _second_repository(scene)
    return Finding(
        check=CHECK,
        severity=Severity.UNKNOWN if silent and may_be_enough else Severity.FAIL,
        subject=vm.label,
        what=f"{vm.label} has {copies} of its newest recovery point; its level {level} wants {wanted}.",
        why=f"If {holding} is lost, so is what {vm.label} could be brought back from."
        if len(vm.homes) == 1
        else f"Its level counts on {wanted} repositories, so that losing some of them loses nothing.",
        evidence=tuple(evidence),
        fix=fix,
        names=tuple(view.name for view in vm.homes),
        vms=(vm.uuid,),
    )


def _second_repository(scene: Scene) -> tuple[str, ...]:
    return (
        f"add [repositories.NAME] with a path on another machine to {scene.settings.file}",
        "then make it: `newhope repo init NAME`",
        "then back up to it too: `newhope backup VM --repository NAME`",
    )
