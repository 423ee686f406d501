"""Hosts and repositories, all asked at the same time, made into one fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from msgspec import Struct

from engine.errors import NewhopeError
from engine.fleet.changing import newest_first, remembered
from engine.fleet.device import Backing, backing_of, machine_id
from engine.fleet.model import DiskDevice, Fleet, RepositoryView
from engine.fleet.repository_access import open_repository
from engine.fleet.side_by_side import ask_all
from engine.hosts import FACTS_TIMEOUT_S, HostLane, take_snapshots
from engine.hosts.model import HostSnapshot
from engine.repository.model import Point, PointKind
from engine.repository.point_names import of_kind
from engine.repository.proofs import proof_marks
from engine.settings import Repository as RepositorySettings
from engine.settings import Settings

_HOSTS = "hosts"


class _Found(Struct, frozen=True):
    """What one question of a gathering brought."""

    snapshots: tuple[HostSnapshot, ...] = ()
    view: RepositoryView | None = None
    points: tuple[Point, ...] = ()


def gather(
    settings: Settings, lanes: Mapping[str, HostLane], *, previous: Fleet | None = None, timeout_s: float = 10.0
) -> Fleet:
    """Ask every host and every repository of the settings at once; what does not answer in time says so in its row.

    A host that is silent now and answered in `previous` is STALE, with its VMs as they were. Never raises for a dead
    host or a missing repository.
    """
    now = datetime.now(UTC)
    questions = {
        f"repository {repository.name}": partial(_look_into, repository) for repository in settings.repositories
    }
    host_lanes = [lanes[host.name] for host in settings.hosts]
    questions[_HOSTS] = partial(_ask_hosts, host_lanes, timeout_s)
    # Hosts keep to their limits by themselves: one that is left behind here would take all others off the screen.
    found = ask_all(questions, timeout_s=timeout_s + 1, longer={_HOSTS: timeout_s + FACTS_TIMEOUT_S + 1})

    before = {snapshot.host: snapshot for snapshot in previous.snapshots} if previous else {}
    answered = found[_HOSTS].snapshots if _HOSTS in found else ()
    snapshots = tuple(remembered(snapshot, before.get(snapshot.host)) for snapshot in answered)
    views: list[RepositoryView] = []
    points: list[Point] = []
    for repository in settings.repositories:
        looked = found.get(f"repository {repository.name}")
        views.append(looked.view if looked and looked.view else _silent(repository, timeout_s))
        points.extend(looked.points if looked else ())
    ordered = newest_first(points)
    return Fleet(
        taken_at=now,
        snapshots=snapshots,
        repositories=tuple(views),
        points=of_kind(ordered, PointKind.VM),
        guest_points=of_kind(ordered, PointKind.GUEST),
        disk_devices=disk_devices(snapshots, timeout_s=timeout_s),
    )


def look_into_repository(repository: RepositorySettings) -> tuple[RepositoryView, tuple[Point, ...]]:
    """Open a repository and return how it is and what recovery points it holds; never raises for a missing one.

    May take as long as its file system takes to answer.
    """
    try:
        with open_repository(repository) as opened:
            info = opened.info()
            points = opened.points()
            damaged = opened.damaged
            proofs = proof_marks(opened)
            verified = opened.verified_last()
    except NewhopeError as error:
        return _unreachable(repository, error.what, error.next_step), ()
    except OSError as error:
        reason = f"{repository.location} cannot be read: {error.strerror or error}."
        return _unreachable(repository, reason, f"`ls -ld {repository.location}`; is its file system mounted?"), ()
    folder = repository.folder
    # A bucket is on no device that could be compared with a disk's, and not on this machine.
    backing = backing_of(folder) if folder is not None else Backing(None, here=False)
    view = RepositoryView(
        name=repository.name,
        path=repository.location,
        reachable=True,
        info=info,
        device=backing.device,
        machine_id=machine_id() if backing.here else None,
        damaged=damaged,
        proofs=proofs,
        verified=verified,
    )
    return view, points


def disk_devices(snapshots: Iterable[HostSnapshot], *, timeout_s: float) -> tuple[DiskDevice, ...]:
    """Return the devices below the disks of those hosts whose files are this machine's files.

    Each folder is asked by itself, so that a dead file system hides only its own disks.
    """
    sources = {
        (vm.host, disk.source)
        for snapshot in snapshots
        if snapshot.facts and snapshot.facts.local
        for vm in snapshot.vms
        for disk in vm.disks
        if disk.device == "disk" and disk.source and disk.source.startswith("/")
    }
    folders: dict[str, set[str]] = {}
    for _, source in sources:
        folders.setdefault(str(Path(source).parent), set()).add(source)
    questions = {folder: partial(_devices_below, inside) for folder, inside in folders.items()}
    found: dict[str, str] = {}
    for devices in ask_all(questions, timeout_s=timeout_s).values():
        found |= devices
    return tuple(
        DiskDevice(host=host, source=source, device=found[source])
        for host, source in sorted(sources)
        if source in found
    )


def _devices_below(sources: set[str]) -> dict[str, str]:
    return {source: device for source in sources if (device := backing_of(Path(source)).device)}


def _ask_hosts(lanes: list[HostLane], timeout_s: float) -> _Found:
    return _Found(snapshots=tuple(take_snapshots(lanes, timeout_s=timeout_s)))


def _look_into(repository: RepositorySettings) -> _Found:
    view, points = look_into_repository(repository)
    return _Found(view=view, points=points)


def _silent(repository: RepositorySettings, timeout_s: float) -> RepositoryView:
    reason = f"{repository.location} did not answer within {timeout_s:.0f} s."
    if repository.folder is None:
        return _unreachable(repository, reason, f"`newhope repo test-storage {repository.name}`; is its server up?")
    return _unreachable(repository, reason, f"`timeout 5 ls {repository.path}`; is its file server up?")


def _unreachable(repository: RepositorySettings, reason: str, next_step: str) -> RepositoryView:
    return RepositoryView(
        name=repository.name, path=repository.location, reachable=False, reason=reason, next_step=next_step
    )
