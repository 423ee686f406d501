"""All that is known at one instant, and the VMs as an operator thinks of them.

A VM is one row whether its host answers, answered before, or is gone for good: what has a recovery point can be
brought back, so it never vanishes from the console because its host did.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, structs

from engine.fleet import Fleet, RepositoryView, gone_vms, known_vms, points_by_vm, proofs_by_vm
from engine.hosts.model import HostSnapshot, HostStatus, Vm, VmState
from engine.jobs.model import Job
from engine.repository.model import Point
from engine.repository.proofs import ProofMark
from engine.requirements import Exposure, ExposureState
from engine.resilience import Finding
from engine.restore import Entry
from engine.settings.model import Level, Settings
from tui.viewmodels.problems import Problem
from tui.viewmodels.text import Span, Tone, bare


class Picture(Struct, frozen=True):
    """What the console knows now. `live` is False while all it has is what was remembered from the last time."""

    settings: Settings
    now: datetime
    fleet: Fleet | None = None
    exposures: tuple[Exposure, ...] = ()
    findings: tuple[Finding, ...] = ()
    jobs: tuple[Job, ...] = ()
    restores: tuple[Entry, ...] = ()
    """Every restore of this machine that is known, the newest first."""
    problems: tuple[Problem, ...] = ()
    live: bool = False
    paused: bool = False
    views: tuple[VmView, ...] = ()
    """Every VM that a host or a repository knows, worst protected first; `complete` fills it in."""

    def snapshot(self, host: str) -> HostSnapshot | None:
        """The host as it answered last."""
        found = () if self.fleet is None else self.fleet.snapshots
        return next((snapshot for snapshot in found if snapshot.host == host), None)

    def repository(self, name: str) -> RepositoryView | None:
        """The repository as it was seen last."""
        found = () if self.fleet is None else self.fleet.repositories
        return next((view for view in found if view.name == name), None)


class VmView(Struct, frozen=True):
    """A VM with all that is known of its protection."""

    uuid: str
    name: str
    host: str
    vm: Vm | None
    """None when no host that answered has it: only its recovery points are left."""
    host_status: HostStatus | None
    points: tuple[Point, ...]
    """Newest first."""
    exposure: Exposure | None
    level: Level | None
    job: Job | None
    """What newhope is doing to it now."""

    guest_points: tuple[Point, ...] = ()
    """Files from inside it, newest first. They bring no VM back: what `points` say of it, they do not."""
    proofs: tuple[ProofMark, ...] = ()
    """Every proof of one of its points, newest first."""

    @property
    def points_of_every_kind(self) -> tuple[Point, ...]:
        """All that can be looked at, newest first."""
        both = (*self.points, *self.guest_points)
        return tuple(sorted(both, key=lambda point: point.manifest.moment, reverse=True))

    @property
    def newest(self) -> Point | None:
        """Its newest recovery point."""
        return self.points[0] if self.points else None


FINE = 3
"""Rank of protection from which on nobody is needed."""

_STATE_WORDS = {
    VmState.RUNNING: Span("> RUN", Tone.GOOD),
    VmState.PAUSED: Span("! PAUS", Tone.WARN),
    VmState.OFF: Span("- OFF", Tone.QUIET),
    VmState.CRASHED: Span("x CRSH", Tone.BAD),
    VmState.OTHER: Span("? OTHR", Tone.WARN),
}

_PROTECTION = {
    ExposureState.NEVER: (0, Span("x NEVER", Tone.BAD), "has no recovery point"),
    ExposureState.LATE: (1, Span("! LATE", Tone.WARN), "is older than its level allows"),
    ExposureState.UNKNOWN: (1, Span("? UNKN", Tone.WARN), "is not known: a repository does not answer"),
    ExposureState.UNPROTECTED: (2, Span("- NONE", Tone.PLAIN), "no level asks for recovery points"),
    ExposureState.OK: (FINE, Span("+ OK", Tone.GOOD), "is within its level"),
    ExposureState.EXCLUDED: (FINE + 1, Span("- EXCL", Tone.QUIET), "is excluded by the settings"),
    ExposureState.GONE: (FINE + 2, Span("- GONE", Tone.QUIET), "was removed; its recovery points are kept"),
}
_NOT_ASKED = (1, Span("? UNKN", Tone.WARN), "is not known yet")


def protection(view: VmView) -> tuple[int, Span, str]:
    """How well a VM is protected: a rank (worst is 0), its word, and what the word means."""
    return _PROTECTION[view.exposure.state] if view.exposure else _NOT_ASKED


def state_word(view: VmView) -> Span:
    """The VM's power state as a sign and a short word; a question mark when its host does not answer now."""
    if view.vm is None:
        return Span("- GONE", Tone.QUIET) if view.host_status is HostStatus.ONLINE else Span("? UNKN", Tone.WARN)
    word = _STATE_WORDS[view.vm.state]
    # What it did when it was last seen is no longer known.
    return word if view.host_status is HostStatus.ONLINE else Span(f"? {bare(word)}", Tone.WARN)


def host_word(snapshot: HostSnapshot | None) -> Span:
    """A host's state in one word."""
    if snapshot is None:
        return Span("? ASKING", Tone.QUIET)
    if snapshot.status is HostStatus.ONLINE:
        return Span("+ OK", Tone.GOOD)
    if snapshot.status is HostStatus.STALE:
        return Span("! STALE", Tone.WARN)
    return Span("x OFFLINE", Tone.BAD)


def complete(picture: Picture) -> Picture:
    """The picture with its VMs put together from hosts, repositories, exposures and jobs."""
    return structs.replace(picture, views=_views(picture))


def _views(picture: Picture) -> tuple[VmView, ...]:
    fleet = picture.fleet
    if fleet is None:
        return ()
    points = points_by_vm(fleet)
    guest_points: dict[str, list[Point]] = {}
    for point in fleet.guest_points:
        guest_points.setdefault(point.manifest.vm.uuid, []).append(point)
    exposures = {exposure.vm_uuid: exposure for exposure in picture.exposures}
    running = {job.subject: job for job in picture.jobs if not job.state.over}
    known = [(vm.uuid, vm.name, vm.host, vm) for vm in known_vms(fleet)]
    gone = [(facts.uuid, facts.name, facts.host, None) for facts in gone_vms(fleet)]
    proofs = proofs_by_vm(fleet)
    views: list[VmView] = []
    for uuid, name, host, vm in (*known, *gone):
        snapshot = picture.snapshot(host)
        exposure = exposures.get(uuid)
        views.append(
            VmView(
                uuid=uuid,
                name=name,
                host=host,
                vm=vm,
                host_status=snapshot.status if snapshot else None,
                points=tuple(points.get(uuid, ())),
                exposure=exposure,
                level=exposure.level if exposure else None,
                job=running.get(name),
                guest_points=tuple(guest_points.get(uuid, ())),
                proofs=proofs.get(uuid, ()),
            )
        )
    return tuple(sorted(views, key=worst_first))


def worst_first(view: VmView) -> tuple[int, float, str]:
    """Order of the VM table: unprotected before late before fine, the oldest first among equals."""
    age_s = view.exposure.age_s if view.exposure and view.exposure.age_s is not None else 0.0
    return (protection(view)[0], -float(age_s), view.name)


def find_view(picture: Picture, wanted: str) -> VmView | None:
    """The VM of that UUID or name."""
    return next((view for view in picture.views if wanted in (view.uuid, view.name)), None)
