"""A VM that could be brought up on no other host: if its own dies, there is nowhere to restore it to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.fleet import HostFitness, Verdict, fitness, ranked
from engine.hosts.model import HostSnapshot, HostStatus
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import counted, listed

CHECK = "no-other-host"
_WHY = "If {host} dies, a restore has nowhere to go until another host is found, bought or repaired."


def check(scene: Scene) -> Iterator[Finding]:
    """A finding for each VM that could be compared; one for a host that has no other to compare with."""
    lonely: dict[str, list[SceneVm]] = {}
    for vm in scene.vms:
        others = [snapshot for snapshot in scene.fleet.snapshots if snapshot.host != vm.host]
        answering = [snapshot for snapshot in others if snapshot.status is HostStatus.ONLINE]
        if not vm.facts:
            continue
        if not answering:
            lonely.setdefault(vm.host, []).append(vm)
        else:
            yield _compared(scene, vm, others, answering)
    for host, vms in lonely.items():
        yield _alone(scene, host, vms)


def _compared(scene: Scene, vm: SceneVm, others: list[HostSnapshot], answering: list[HostSnapshot]) -> Finding:
    found = ranked(_fitness(scene, vm, snapshot) for snapshot in answering)
    best = found[0]
    if best.verdict is Verdict.FITS:
        fitting = [each.host for each in found if each.verdict is Verdict.FITS]
        return Finding(CHECK, Severity.OK, vm.label, f"{vm.label} would also run on {listed(fitting)}.", vms=(vm.uuid,))
    silent = [
        f"{snapshot.host}: cannot be asked, it does not answer" for snapshot in others if snapshot not in answering
    ]
    changed = best.verdict is Verdict.FITS_WITH_CHANGES
    reached = f"On no other host would {vm.label} run as it is" if changed else f"No other host can run {vm.label}"
    return Finding(
        check=CHECK,
        severity=Severity.WARN if changed else Severity.FAIL,
        subject=vm.label,
        what=f"{reached}; {best.host} comes nearest.",
        why=f"If {vm.host} dies, this has to be mended before {vm.label} is back, with everyone waiting."
        if changed
        else _WHY.format(host=vm.host),
        evidence=(*(_naming(each.host, each.reason) for each in found), *silent),
        fix=_remedies(best),
        vms=(vm.uuid,),
    )


def _fitness(scene: Scene, vm: SceneVm, snapshot: HostSnapshot) -> HostFitness:
    """The worse of two: as the newest recovery point has the VM, which can be restored, and as it is now."""
    host = scene.host_settings(snapshot.host)
    pool = host.pool if host else None
    if vm.points:
        needed_bytes = vm.points[0].size_bytes
    else:
        needed_bytes = sum(disk.allocation_bytes for disk in vm.seen.disks if disk.device == "disk") if vm.seen else 0
    found = [fitness(facts, snapshot, pool=pool, needed_bytes=needed_bytes) for facts in vm.facts]
    return ranked(found)[-1]


def _remedies(best: HostFitness) -> tuple[str, ...]:
    return tuple(_naming(f"{best.host}, {check.name}", check.remedy) for check in best.checks if check.remedy)


def _naming(where: str, sentence: str) -> str:
    host = where.split(",")[0]
    return sentence if re.search(rf"\b{re.escape(host)}\b", sentence) else f"{where}: {sentence}"


def _alone(scene: Scene, host: str, vms: list[SceneVm]) -> Finding:
    others = [snapshot for snapshot in scene.fleet.snapshots if snapshot.host != host]
    names = listed([vm.label for vm in vms])
    if others:
        silent = listed([snapshot.host for snapshot in others])
        return Finding(
            check=CHECK,
            severity=Severity.UNKNOWN,
            subject=host,
            what=f"Whether another host can run {names} cannot be told: {silent} "
            f"{'does' if len(others) == 1 else 'do'} not answer.",
            why=_WHY.format(host=host),
            evidence=tuple(f"{snapshot.host}: {snapshot.reason or 'no answer'}" for snapshot in others),
            fix=tuple(snapshot.next_step for snapshot in others if snapshot.next_step),
            vms=tuple(vm.uuid for vm in vms),
            names=tuple(vm.label for vm in vms),
        )
    return Finding(
        check=CHECK,
        severity=Severity.FAIL,
        subject=host,
        what=f"{host} is the only host; {counted(len(vms), 'VM')} can run nowhere else.",
        why=_WHY.format(host=host),
        evidence=(f"hosts in {scene.settings.file}: {host}", f"VMs: {names}"),
        fix=(f'add [hosts.NAME] with uri = "qemu+ssh://root@HOST/system" to {scene.settings.file}',),
        vms=tuple(vm.uuid for vm in vms),
        names=tuple(vm.label for vm in vms),
    )
