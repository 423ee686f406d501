"""A host that does not answer: its VMs may be down, and nothing on it can be checked or backed up."""

from __future__ import annotations

from collections.abc import Iterator

from engine.fleet import Verdict, fitness, ranked
from engine.hosts.model import HostSnapshot, HostStatus
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import age_in_words, command, counted

CHECK = "host-unreachable"
_MOST_LINES = 5


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each host."""
    for snapshot in scene.fleet.snapshots:
        if snapshot.status is HostStatus.ONLINE:
            yield Finding(CHECK, Severity.OK, snapshot.host, f"{snapshot.host} answers.")
        else:
            yield _silent(scene, snapshot)


def _silent(scene: Scene, snapshot: HostSnapshot) -> Finding:
    vms = [vm for vm in scene.vms if vm.host == snapshot.host]
    since = ""
    if snapshot.status is HostStatus.STALE:
        since = f"; its last answer is {age_in_words((scene.now - snapshot.taken_at).total_seconds())} old"
    known = counted(len(vms), "VM") + (" is" if len(vms) == 1 else " are")
    return Finding(
        check=CHECK,
        severity=Severity.FAIL,
        subject=snapshot.host,
        what=f"{snapshot.host} does not answer{since}; {known} known to be on it.",
        why="Its VMs may be down, and until it answers they can be neither checked nor backed up.",
        evidence=(f"reason: {snapshot.reason or 'none was given'}", *_vm_lines(scene, vms)),
        fix=(snapshot.next_step or f"bring {snapshot.host} back", *_restores(scene, vms)),
        vms=tuple(vm.uuid for vm in vms),
        names=tuple(vm.label for vm in vms),
    )


def _vm_lines(scene: Scene, vms: list[SceneVm]) -> list[str]:
    lines: list[str] = []
    for vm in vms[:_MOST_LINES]:
        age_s = vm.age_s(scene.now)
        newest = f"newest recovery point {age_in_words(age_s)} old" if age_s is not None else "no recovery point"
        lines.append(f"{vm.label}: {newest}")
    if len(vms) > _MOST_LINES:
        lines.append(f"and {counted(len(vms) - _MOST_LINES, 'more VM')}")
    return lines


def _restores(scene: Scene, vms: list[SceneVm]) -> list[str]:
    lines: list[str] = []
    for vm in [each for each in vms if each.points][:_MOST_LINES]:
        newest = vm.points[0]
        online = [each for each in scene.fleet.snapshots if each.status is HostStatus.ONLINE]
        best = ranked(fitness(newest.manifest.vm, each, needed_bytes=newest.size_bytes) for each in online)
        if best and best[0].verdict is not Verdict.DOES_NOT_FIT:
            restore = command("newhope", "restore", vm.point_name, "--to", best[0].host)
            lines.append(f"or bring {vm.label} up elsewhere: {restore}")
    return lines
