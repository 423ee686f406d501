"""What all checks look at: each VM together with everything that its recovery depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from engine.fleet import Fleet, RepositoryView, facts_of, gone_vms, known_vms, points_by_vm, was_removed
from engine.hosts.model import HostSnapshot, HostStatus, Vm
from engine.repository.model import Point, VmFacts
from engine.resilience.wording import command
from engine.settings import Host, Level, Repository, Settings, exclusion_of, level_for


class SceneVm(Struct, frozen=True):
    """A VM and what its recovery depends on."""

    uuid: str
    name: str
    label: str
    """Its name, with its host where several VMs share the name."""
    host: str
    level: Level | None
    points: tuple[Point, ...]
    """Newest first."""
    homes: tuple[RepositoryView, ...]
    """Repositories with a recovery point as good as the newest, each only once however many names it has."""
    seen: Vm | None
    """As its host showed it; None for one that only recovery points know."""
    snapshot: HostSnapshot | None
    """What is known of its host; None for a host that is not configured."""

    @property
    def answers(self) -> bool:
        """Whether its host showed it just now."""
        online = self.snapshot is not None and self.snapshot.status is HostStatus.ONLINE
        return online and self.seen is not None

    @property
    def facts(self) -> tuple[VmFacts, ...]:
        """What a host must offer it: as its newest recovery point has it and, where that differs, as it is now."""
        as_kept = (self.points[0].manifest.vm,) if self.points else ()
        as_now = (facts_of(self.seen),) if self.seen else ()
        return tuple(dict.fromkeys((*as_kept, *as_now)))

    @property
    def backup_command(self) -> str:
        """What makes a recovery point of it."""
        host = () if self.label == self.name else ("--host", self.host)
        return command("newhope", "backup", self.name, *host)

    @property
    def point_name(self) -> str:
        """Its newest recovery point, as commands take it."""
        return f"{self.name if self.label == self.name else self.uuid}@latest"

    def age_s(self, now: datetime) -> float | None:
        """How old its newest recovery point is; None without any."""
        return max(0.0, (now - self.points[0].manifest.moment).total_seconds()) if self.points else None


class Scene(Struct, frozen=True):
    """The fleet as the checks see it."""

    settings: Settings
    fleet: Fleet
    now: datetime
    vms: tuple[SceneVm, ...]
    """Every VM that exists; those that were removed from their host are left out."""

    @property
    def silent_repositories(self) -> tuple[RepositoryView, ...]:
        """Configured repositories that could not be looked into."""
        return tuple(view for view in self.fleet.repositories if not view.reachable)

    def host_settings(self, name: str) -> Host | None:
        """What the settings say of a host."""
        return next((host for host in self.settings.hosts if host.name == name), None)

    def repository_settings(self, name: str) -> Repository | None:
        """What the settings say of a repository."""
        return next((repository for repository in self.settings.repositories if repository.name == name), None)


def lay_out(settings: Settings, fleet: Fleet, now: datetime) -> Scene:
    """Bring together what the checks need to know of each VM; nothing is asked of those that the settings exclude."""
    points = points_by_vm(fleet)
    snapshots = {snapshot.host: snapshot for snapshot in fleet.snapshots}
    hidden = [
        facts
        for facts in gone_vms(fleet)
        if not was_removed(fleet, facts) and not exclusion_of(settings, facts.name, host=facts.host, tags=facts.tags)
    ]
    seen = [vm for vm in known_vms(fleet) if not exclusion_of(settings, vm.name, host=vm.host, tags=vm.tags)]
    names = Counter([vm.name for vm in seen] + [facts.name for facts in hidden])
    vms: list[SceneVm] = []
    for vm, uuid, name, host, tags in (
        *((vm, vm.uuid, vm.name, vm.host, vm.tags) for vm in seen),
        *((None, facts.uuid, facts.name, facts.host, facts.tags) for facts in hidden),
    ):
        level = level_for(settings, name, host=host, tags=tags)
        own = points.get(uuid, ())
        vms.append(
            SceneVm(
                uuid=uuid,
                name=name,
                label=name if names[name] == 1 else f"{name} on {host}",
                host=host,
                level=level,
                points=own,
                homes=_homes(own, level, {view.name: view for view in fleet.repositories}),
                seen=vm,
                snapshot=snapshots.get(host),
            )
        )
    return Scene(settings=settings, fleet=fleet, now=now, vms=tuple(vms))


def _homes(
    points: tuple[Point, ...], level: Level | None, views: Mapping[str, RepositoryView]
) -> tuple[RepositoryView, ...]:
    """Repositories whose newest point of the VM loses no more than the level accepts against the newest of all."""
    slack_s = level.rpo_s if level else 0
    found: dict[str, RepositoryView] = {}
    for point in points:
        behind_s = (points[0].manifest.moment - point.manifest.moment).total_seconds()
        view = views.get(point.repository)
        if view is not None and behind_s <= slack_s:
            found.setdefault(view.info.id if view.info else view.name, view)
    return tuple(found.values())
