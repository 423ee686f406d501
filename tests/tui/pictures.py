"""Pictures for the console's tests: a fleet of the shared builders, judged by the engine itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from engine.fleet import Fleet
from engine.jobs import Job, JobState
from engine.requirements import exposures
from engine.resilience import find
from engine.restore import Entry, Phase, Request
from engine.settings import Settings
from tests.builders import NOW, make_fleet, make_host, make_point, make_settings, make_vm
from tui.viewmodels.picture import Picture, complete
from tui.viewmodels.problems import Problem
from tui.viewmodels.text import Block, Table, plain_text


def make_picture(
    fleet: Fleet | None = None,
    *,
    settings: Settings | None = None,
    jobs: Iterable[Job] = (),
    restores: Iterable[Entry] = (),
    problems: Iterable[Problem] = (),
    now: datetime = NOW,
) -> Picture:
    """A live picture of a fleet (three healthy hosts with `web` on the first, unless told otherwise)."""
    settings, fleet = settings or make_settings(), fleet or make_fleet()
    return complete(
        Picture(
            settings=settings,
            now=now,
            fleet=fleet,
            exposures=exposures(settings, fleet, now),
            findings=find(settings, fleet, now),
            jobs=tuple(jobs),
            restores=tuple(restores),
            problems=tuple(problems),
            live=True,
        )
    )


def make_restore(identity: str = "0a1b2c3d", **changes: Any) -> Entry:
    """A restore of `web` beside the original on coruscant that was committed; `request` are changes of its request."""
    request = Request("vault", "uuid", "9f" * 8, "coruscant", name="web-restored", id=identity, operator="anna")
    values: dict[str, Any] = {
        "id": identity,
        "vm": "web",
        "moment": NOW - timedelta(minutes=10),
        "request": replace(request, **changes.pop("request", {})),
        "phase": Phase.COMMITTED,
        "created": NOW,
        "changed": NOW,
        "job_id": 7,
    }
    return Entry(**(values | changes))


def make_job(job_id: int = 7, **changes: Any) -> Job:
    """A running backup of `web`."""
    values: dict[str, Any] = {
        "id": job_id,
        "kind": "backup",
        "subject": "web",
        "host": "alderaan",
        "state": JobState.RUN,
        "created": NOW,
        "operator": "anna",
        "spec": b"{}",
        "started": NOW,
        "pid": 4711,
        "heartbeat": NOW,
    }
    return Job(**(values | changes))


def busy_fleet() -> Fleet:
    """VMs in every state of protection, on two hosts that answer."""
    return make_fleet(
        hosts=[
            make_host("alderaan", vms=[make_vm("web"), make_vm("db"), make_vm("mail")]),
            make_host("coruscant", vms=[make_vm("build")]),
            make_host("yavin"),
        ],
        points=[make_point("web", age="20m"), make_point("db", age="5h"), make_point("mail", age="30m")],
    )


def texts(block: Block) -> list[str]:
    """The lines of a block without their tones."""
    return [plain_text(one) for one in block]


def row_of(table: Table, key: str) -> dict[str, str]:
    """One row of a table by its columns' keys."""
    row = next(row for row in table.rows if row.key == key)
    return {column.key: cell.text.strip() for column, cell in zip(table.columns, row.cells, strict=True)}
