"""A place that a VM's host and all its good copies share: one fire, one blown fuse takes both.

Only what is declared counts. A repository that is on a configured host is wherever that host is, unless it says
otherwise. The kind `disk` is `shared_machine`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.checks.shared_machine import Nearness, nearness
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import counted, listed

CHECK = "shared-place"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each place that hosts and all good copies share; OK for each VM that has none of these."""
    shared: dict[tuple[str, str], list[SceneVm]] = {}
    for vm in scene.vms:
        near = [nearness(scene, vm, view)[0] for view in vm.homes]
        if not near or all(each in (Nearness.SAME_HOST, Nearness.SAME_DEVICE) for each in near):
            continue
        host = scene.host_settings(vm.host)
        homes = [_places(scene, view.name) for view in vm.homes]
        comparable = {
            kind: value
            for kind, value in (host.places.items() if host else ())
            if kind != "disk" and all(kind in places for places in homes)
        }
        together = [place for place in comparable.items() if all(places[place[0]] == place[1] for places in homes)]
        for place in together:
            shared.setdefault(place, []).append(vm)
        if comparable and not together:
            kinds = listed(sorted(comparable))
            what = f"{vm.label} has a copy in another {kinds}."
            yield Finding(CHECK, Severity.OK, vm.label, what, vms=(vm.uuid,))
    for (kind, value), vms in shared.items():
        yield _finding(kind, value, vms)


def _places(scene: Scene, repository: str) -> dict[str, str]:
    declared = scene.repository_settings(repository)
    if declared is None:
        return {}
    host = scene.host_settings(declared.on_host) if declared.on_host else None
    return {**(host.places if host else {}), **declared.places}


def _finding(kind: str, value: str, vms: list[SceneVm]) -> Finding:
    hosts = list(dict.fromkeys(vm.host for vm in vms))
    homes = list(dict.fromkeys(view.name for vm in vms for view in vm.homes))
    return Finding(
        check=CHECK,
        severity=Severity.WARN,
        subject=f"{kind} {value}",
        what=f"{counted(len(vms), 'VM')} and all copies {'of it' if len(vms) == 1 else 'of them'} "
        f"depend on the {kind} {value}.",
        why=f"If the {kind} {value} fails, the VMs are down and cannot be restored elsewhere either.",
        evidence=(
            f"hosts there: {listed(hosts)}",
            f"repositories there: {listed(homes)}",
            f"VMs: {listed([vm.label for vm in vms])}",
        ),
        fix=(f"keep a copy in a repository of another {kind}, or move one of these", f"or correct the declared {kind}"),
        vms=tuple(vm.uuid for vm in vms),
        names=(*hosts, *homes, *(vm.label for vm in vms)),
    )
