"""Files of a recovery point written to this machine by a job, which outlives whoever asked for it."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from engine.errors import Conflict
from engine.fleet import open_repository
from engine.jobs import JobContext
from engine.jobs.pace import Pace
from engine.point_files.opening import open_files
from engine.point_files.place import Place
from engine.point_files.writing import Written, refusals_of, write
from engine.settings import Settings, find_repository

_WRITE = "write the files"


class GetRequest(Struct, frozen=True):
    """What is written where: the specification of its job."""

    repository: str
    vm_uuid: str
    vm: str
    point_id: str
    volume: str
    """Empty for a point of guest files."""
    path: bytes
    folder: str
    """Absolute; made if it is not there. What is written gets its own name in it, a whole volume the volume's."""

    @property
    def place(self) -> Place:
        """What is written."""
        return Place(self.volume, self.path)

    @property
    def destination(self) -> Path:
        """What it will be called on this machine."""
        whole = self.volume.replace("/", "-") or "files"
        return Path(self.folder) / (os.fsdecode(self.path.rpartition(b"/")[2]) or whole)


def refuse_taken_place(request: GetRequest) -> None:
    """Raise Conflict if something of that name is there already."""
    if os.path.lexists(request.destination):
        raise Conflict(
            f"{request.destination} is there already.",
            untouched="It was not touched, and nothing was written.",
            next_step="Choose another folder.",
        )


def get(settings: Settings, request: GetRequest, context: JobContext) -> Written:
    """Write them, as fast as the job may. Raises what `write` raises, and Cancelled between two pieces."""
    pace = Pace(context)
    with (
        context.step(_WRITE) as step,
        open_repository(find_repository(settings, request.repository)) as repository,
        open_files(repository, repository.point(request.vm_uuid, request.point_id)) as opened,
    ):
        refuse_taken_place(request)
        with refusals_of(Path(request.folder)):
            Path(request.folder).mkdir(parents=True, exist_ok=True)
        before = 0

        def tell(files: int, size_bytes: int, name: str) -> None:
            nonlocal before
            context.raise_if_cancelled()
            step.advance(size_bytes - before)
            before = size_bytes

        opened.volumes()
        files = opened.on(request.volume)
        return write(files, request.path, request.destination, progress=tell, pace=pace.take)
