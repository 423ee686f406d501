"""A recovery point that is open to look at its files: held by a screen, asked only from threads of the gateway."""

from __future__ import annotations

from contextlib import ExitStack

from engine.fleet import open_repository
from engine.hosts.model import Vm
from engine.point_files import Children, GetRequest, Place, open_files, refuse_taken_place
from engine.repository import Point
from engine.restore import PutBackPlan, PutBackRequest, plan_put_back, suffix_now
from engine.settings import Settings, find_repository


class PointLook:
    """Open until `close`. Every method may take a while, and raises what `engine.point_files` raises."""

    def __init__(self, settings: Settings, point: Point) -> None:
        self._point = point
        with ExitStack() as held:
            repository = held.enter_context(open_repository(find_repository(settings, point.repository)))
            self._opened = held.enter_context(open_files(repository, point))
            self.volumes = self._opened.volumes()
            self._held = held.pop_all()

    def close(self) -> None:
        """End it."""
        self._held.close()

    def children(self, place: Place) -> Children:
        """What is in a folder."""
        return self._opened.on(place.volume).children(place.path)

    def get_request(self, place: Place, folder: str) -> GetRequest:
        """What is written into that folder. Raises Conflict where something of that name is there."""
        vm = self._point.manifest.vm
        request = GetRequest(self._point.repository, vm.uuid, vm.name, self._point.id, place.volume, place.path, folder)
        refuse_taken_place(request)
        return request

    def put_back_plan(self, place: Place, vm: Vm, as_path: str) -> PutBackPlan:
        """What putting it back under that path would do."""
        request = PutBackRequest(
            repository=self._point.repository,
            vm_uuid=vm.uuid,
            vm=vm.name,
            host=vm.host,
            point_id=self._point.id,
            path=f"/{place.path.decode()}",
            as_path=as_path,
            suffix=suffix_now(),
            volume=place.volume,
        )
        return plan_put_back(self._opened.on(place.volume), vm, request)
