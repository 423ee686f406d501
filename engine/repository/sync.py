"""A sync: recovery points of one repository, made to be in another one too.

1. A point is at the target if one of its points has the same origin (`Point.original_id`). All others that are asked
   for are copied one after another, the newest of every VM first. So a run that is broken off, however often, is simply
   begun again: points that are listed are done, and of one that was under way every block in a durable pack is known.
2. Blocks are read from the source, each checked against its name, and written by a writer of the target like those of
   any backup (`copied_blocks`), under its own key, in its own size. What the target has is not sent.
3. The copy is committed as every point is: packs, index, announcement, lease, manifest. With `verify` its blocks are
   read back from the target before that (`arrival`). A manifest says nothing that depends on the run, so two syncs of
   one point at once make one object, not two.
4. Pins and protections come along, also to copies that were there already. What the source lets go later, the target
   keeps: only `delete` drops copies whose point is gone from the source, and never a guarded one or a VM's newest.
5. A point that is damaged at the source is refused by its name, and the others are copied. Anything else stops the run.

Nothing is ever changed at the source. Who may run beside it: see the package page; a sync is a reader of the source and
a writer of the target.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import structs

from engine.errors import Conflict
from engine.repository.arrival import check_arrival
from engine.repository.copied_blocks import DiskCopy, Neighbour, Side, SourceUnreadable
from engine.repository.errors import RepositoryDamaged
from engine.repository.guards import FoundGuard, Guard, GuardKind
from engine.repository.model import DiskRecord, FileRecord, Manifest, Origin, Point
from engine.repository.sync_model import (
    Advance,
    Copied,
    PointRefused,
    Refused,
    Synced,
    SyncLimits,
    SyncPlan,
    SyncRequest,
    Unwatched,
    Watch,
)
from engine.repository.sync_plan import by_original, same_point, to_drop, wanted

if TYPE_CHECKING:
    from engine.repository.repository import Repository
    from engine.repository.writer import Writer

USUAL_SYNC_LIMITS = SyncLimits()


class Sync:
    """One sync. For one thread."""

    def __init__(
        self, source: Repository, target: Repository, request: SyncRequest, owner: str, limits: SyncLimits
    ) -> None:
        if source.id == target.id:
            raise Conflict(
                f"{source.name} ({source.location}) and {target.name} ({target.location}) are the same repository.",
                next_step="Name two different ones; newhope repo init makes a second one.",
            )
        self._source = source
        self._target = target
        self._request = request
        self._owner = owner
        # Half as many are sent as are read: a pack is many blocks, and each must get through before its time is up.
        self._writing = structs.replace(limits.writer, streams=max(request.streams // 2, 1))
        self._alike = source.names_like(target)
        self._pairs: dict[tuple[str, str], tuple[Point, Point]] = {}
        """Points that are in both, as they are here and there."""
        self._read_back: dict[str, Manifest] = {}
        """By VM: a copy of it that was read back in this run."""

    def plan(self, *, estimate: bool = False) -> SyncPlan:
        """What there is to do. Estimating how much has to be stored reads the maps of all these points."""
        chosen = wanted(self._source.points(), self._request, self._source.name)
        at_target = self._target.points()
        there = by_original(at_target)
        copies = tuple(point for point in chosen if same_point(point) not in there)
        self._pairs = {
            same_point(point): (point, there[same_point(point)])
            for point in self._source.points()
            if same_point(point) in there
        }
        transfer_bytes, unreadable = self._estimate(copies) if estimate else (None, ())
        vms = {point.manifest.vm.uuid for point in chosen}
        damaged = tuple(
            str(damage)
            for damage in self._source.damaged
            if damage.key.startswith("points/") and (not self._request.vms or damage.key.split("/")[1] in vms)
        )
        return SyncPlan(
            source=self._source.name,
            target=self._target.name,
            copies=copies,
            present=len(chosen) - len(copies),
            data_bytes=sum(point.size_bytes for point in copies),
            transfer_bytes=transfer_bytes,
            drops=self._drops(at_target),
            unreadable=(*damaged, *unreadable),
        )

    def run(self, plan: SyncPlan, watch: Watch | None = None) -> Synced:
        """Do what was planned."""
        watch = watch or Unwatched()
        self._target.take_over()
        chosen = wanted(self._source.points(), self._request, self._source.name)
        guards = sum(
            self._guard(*self._pairs[same_point(point)]) for point in chosen if same_point(point) in self._pairs
        )
        copied: list[Copied] = []
        refused: list[Refused] = []
        gone = 0
        for point in plan.copies:
            try:
                with watch.point(point) as advance:
                    done = self._copy(point, advance)
            except PointRefused as error:
                refused.append(Refused(point.manifest.vm.name, point.id, error.what))
            else:
                gone += done is None
                copied += [done] if done else []
        dropped = self._drop(plan.drops)
        return Synced(tuple(copied), plan.present, guards, tuple(refused), gone, dropped)

    def _copy(self, point: Point, advance: Advance) -> Copied | None:
        vm = point.manifest.vm
        if same_point(point) in by_original(self._target.points(vm.uuid)) or not self._listed(point):
            return None
        try:
            with (
                self._source.reader() as reader,
                self._target.writer(self._owner, limits=self._writing) as writer,
            ):
                side = Side(reader, self._source.block_bytes)
                manifest, read_bytes = self._blocks(point, side, writer, advance)
                arrived = writer.commit_copy(manifest, self._look_first(manifest))
        except SourceUnreadable as reason:
            if not self._listed(point):
                return None
            raise PointRefused(
                f"{vm.name}@{point.id} cannot be copied: {reason}",
                untouched=f"It is not listed in {self._target.name}; whatever is listed there is whole.",
                next_step=f"newhope repo verify {self._source.name} says what else is hurt. Back {vm.name} up again, "
                "and sync that.",
            ) from reason
        self._pairs[same_point(point)] = (point, arrived)
        if self._request.verify:
            self._read_back[vm.uuid] = arrived.manifest
        guards = self._guard(point, arrived)
        return Copied(arrived, read_bytes, writer.stats.new_bytes, guards)

    def _blocks(self, point: Point, side: Side, writer: Writer, advance: Advance) -> tuple[Manifest, int]:
        there = Side(self._target.reader(), self._target.block_bytes)
        read_bytes = 0
        files: list[FileRecord] = []
        for file in point.manifest.files:
            try:
                content = side.reader.file(file)
            except RepositoryDamaged as error:
                raise SourceUnreadable(error.what) from error
            files.append(writer.file(file.role, file.name, content))
            read_bytes += len(content)
        disks: list[DiskRecord] = []
        neighbour = self._neighbour(point)
        for record in point.manifest.disks:
            copy = DiskCopy(side, there, writer, record, named_alike=self._alike, streams=self._request.streams)
            beside = next((each for each in neighbour if each.at_source.target == record.target), None)
            disks.append(copy.run(beside, advance))
            read_bytes += copy.read_bytes
        origin = point.manifest.origin or Origin(self._source.id, point.id)
        return structs.replace(point.manifest, disks=tuple(disks), files=tuple(files), origin=origin), read_bytes

    def _neighbour(self, point: Point) -> tuple[Neighbour, ...]:
        """The disks of the point nearest in time, of the same VM, that is in both."""
        moment = point.manifest.moment
        pairs = [pair for (vm, _), pair in self._pairs.items() if vm == point.manifest.vm.uuid]
        if not pairs:
            return ()
        here, there = min(pairs, key=lambda pair: abs(pair[0].manifest.moment - moment))
        return tuple(map(Neighbour, here.manifest.disks, there.manifest.disks))

    def _look_first(self, manifest: Manifest) -> Callable[[], None]:
        def look() -> None:
            if self._request.verify:
                seen = self._read_back.get(manifest.vm.uuid)
                streams = self._request.streams
                check_arrival(self._target.reader(), self._target.block_bytes, manifest, seen, streams=streams)

        return look

    def _listed(self, point: Point) -> bool:
        return any(each.id == point.id for each in self._source.points(point.manifest.vm.uuid))

    def _guard(self, here: Point, there: Point) -> int:
        """Guard a copy as its point is guarded; how many guards that took."""
        now = datetime.now(UTC)
        has = {_what(found.guard) for found in self._target.guards(there.manifest.vm.uuid) if _of(found, there)}
        missing: list[Guard] = []
        for found in self._source.guards(here.manifest.vm.uuid):
            if not _of(found, here) or not found.reason(now):
                continue
            guard = found.guard or _unreadable(found, here, self._source.name)
            if _what(guard) not in has:
                missing.append(guard)
                has.add(_what(guard))
        for guard in missing:
            self._target.add_guard(there, guard)
        return len(missing)

    def _drops(self, at_target: tuple[Point, ...]) -> tuple[Point, ...]:
        if not self._request.delete:
            return ()
        at_source = self._source.point_ids()
        drops = to_drop(at_target, self._request, self._source.id, at_source, self._target.guarded())
        if drops and not at_source:
            raise Conflict(
                f"The repository {self._source.name} holds no recovery point at all, so every copy would go.",
                next_step=f"Look whether all of {self._source.location} is there. What is to go from "
                f"{self._target.name} goes with newhope repo prune {self._target.name}.",
            )
        return drops

    def _drop(self, planned: tuple[Point, ...]) -> tuple[Point, ...]:
        """Drop what still may go: a point may have come back, or a guard have come, since it was planned."""
        if not planned:
            return ()
        still = {point.id for point in self._drops(self._target.points())}
        drops = tuple(point for point in planned if point.id in still)
        with self._target.collector(self._owner) as collector:
            collector.drop(drops)
        return drops

    def _estimate(self, copies: tuple[Point, ...]) -> tuple[int, tuple[str, ...]]:
        """Bytes of the blocks that these points need and no point does that is there; which of them cannot be read."""
        needed, there = self._source.marked(), self._source.marked()
        unreadable: list[str] = []
        for marks, points in ((there, [pair[0] for pair in self._pairs.values()]), (needed, copies)):
            for point in points:
                try:
                    marks.add(point.manifest)
                except RepositoryDamaged as error:
                    if marks is needed:
                        unreadable.append(f"{point.manifest.vm.name}@{point.id}: {error.what}")
        with self._target.reader():
            total = sum(
                length
                for name, length in needed.records()
                if not there.has(name) and not (self._alike and self._target.holds(name))
            )
        return total, tuple(unreadable)


def _of(found: FoundGuard, point: Point) -> bool:
    return found.point_id == point.id


def _what(guard: Guard | None) -> tuple[GuardKind, datetime | None, str] | None:
    return guard and (guard.kind, guard.until, guard.why)


def _unreadable(found: FoundGuard, point: Point, source: str) -> Guard:
    """What stands for a guard that cannot be read: it guards, and nobody knows for how long."""
    why = f"{found.key} in {source} guards it, and cannot be read"
    return Guard(point.manifest.vm.uuid, point.id, GuardKind.PIN, why, "newhope repo sync", datetime.now(UTC))
