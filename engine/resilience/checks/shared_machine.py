"""A VM whose every good copy lies on the VM's own host, or even on the same disk.

How a host and a repository are held against each other, the first that answers:

1. `on_host` of the repository says on which host it is.
2. Both have a place of the kind `disk`: they share it or they do not.
3. Their machine-ids are equal, and then perhaps the disks below VM and repository too.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from engine.fleet import RepositoryView
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import counted, listed

SAME_HOST = "repository-on-same-host"
SAME_DEVICE = "repository-on-same-device"


class Nearness(StrEnum):
    """How near a repository is to a VM."""

    APART = "apart"
    UNKNOWN = "unknown"
    SAME_HOST = "same host"
    SAME_DEVICE = "same device"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each host with the repositories that share its fate; OK for each VM that has a copy elsewhere."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[SceneVm]] = {}
    for vm in scene.vms:
        near = [nearness(scene, vm, view)[0] for view in vm.homes]
        if not near or any(each is Nearness.UNKNOWN for each in near):
            continue
        if Nearness.APART in near:
            apart = [view.name for view, each in zip(vm.homes, near, strict=True) if each is Nearness.APART]
            what = f"{vm.label} has a copy away from {vm.host}, in {listed(apart)}."
            yield Finding(SAME_HOST, Severity.OK, vm.label, what, vms=(vm.uuid,))
            continue
        on_device = all(each is Nearness.SAME_DEVICE for each in near)
        homes = tuple(view.name for view in vm.homes)
        groups.setdefault((SAME_DEVICE if on_device else SAME_HOST, vm.host, homes), []).append(vm)
    for (check_id, host, homes), vms in groups.items():
        yield _finding(scene, check_id, host, homes, vms)


def nearness(scene: Scene, vm: SceneVm, view: RepositoryView) -> tuple[Nearness, str]:
    """Return how near a repository is to a VM, and how that is known."""
    declared = scene.repository_settings(view.name)
    host = scene.host_settings(vm.host)
    if declared and declared.on_host:
        how = f'{view.name}: on_host = "{declared.on_host}" in the settings'
        return (Nearness.SAME_HOST if declared.on_host == vm.host else Nearness.APART), how
    disks = (host.places.get("disk") if host else None, declared.places.get("disk") if declared else None)
    if disks[0] and disks[1]:
        same = disks[0] == disks[1]
        how = f"{view.name}: its disk is declared as {disks[1]}, that of {vm.host} as {disks[0]}"
        return (Nearness.SAME_DEVICE if same else Nearness.APART), how
    return _probed(scene, vm, view)


def _probed(scene: Scene, vm: SceneVm, view: RepositoryView) -> tuple[Nearness, str]:
    facts = vm.snapshot.facts if vm.snapshot else None
    if facts is None:
        return Nearness.UNKNOWN, f"{view.name}: {vm.host} was never asked which machine it is"
    if view.machine_id is None:
        return Nearness.APART, f"{view.name}: its files come over a network"
    # A repository is always found on this machine; a host whose machine-id cannot be read is another one, unless it
    # shares this machine's files.
    here = facts.machine_id == view.machine_id if facts.machine_id else facts.local
    if not here:
        return Nearness.APART, f"{view.name}: on another machine than {vm.host}"
    how = f"{view.name}: on the machine of {vm.host} (machine-id {view.machine_id[:8]}...)"
    below = {each.device for each in scene.fleet.disk_devices if each.host == vm.host and each.source in _sources(vm)}
    if view.device and below & {view.device}:
        return Nearness.SAME_DEVICE, f"{how}, on the same device {view.device.rsplit('/', 1)[-1]}"
    return Nearness.SAME_HOST, how


def _sources(vm: SceneVm) -> set[str]:
    return {disk.source for disk in vm.seen.disks if disk.source} if vm.seen else set()


def _finding(scene: Scene, check_id: str, host: str, homes: tuple[str, ...], vms: list[SceneVm]) -> Finding:
    names, kept = listed([vm.label for vm in vms]), listed(homes)
    views = [view for view in scene.fleet.repositories if view.name in homes]
    thing = "the disk that holds them too" if check_id == SAME_DEVICE else f"{host} itself"
    return Finding(
        check=check_id,
        severity=Severity.FAIL,
        subject=listed([host, *homes]),
        what=f"{counted(len(vms), 'VM')} on {host} {'is' if len(vms) == 1 else 'are'} kept only in {kept}, on {thing}.",
        why=f"If {'that disk' if check_id == SAME_DEVICE else host} is lost, the VMs and every way to bring them back "
        "are lost together.",
        evidence=(f"VMs: {names}", *(nearness(scene, vms[0], view)[1] for view in views)),
        fix=(
            f"add [repositories.NAME] on another machine to {scene.settings.file}, then `newhope repo init NAME`",
            f'or, if this is mistaken, say where {homes[0]} is: on_host = "HOST" in [repositories.{homes[0]}]',
        ),
        vms=tuple(vm.uuid for vm in vms),
        names=(host, *homes, *(vm.label for vm in vms)),
    )
