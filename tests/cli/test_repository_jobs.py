"""`newhope repo verify` and `newhope repo prune` as jobs: they go on without a terminal, and stop cleanly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.cli.prune_job import PointToDrop, PruneJob, prune_repository
from engine.cli.verify_job import TITLES, VerifyJob, verify_repository
from engine.errors import Conflict, ExitCode
from engine.jobs import Cancelled, Job, JobContext, JobState, Journal, follow, launch
from engine.repository import Extent, Point, Repository, VerifyRequest
from engine.repository.verify_history import VerifyLog
from engine.settings import load
from tests.cli.conftest import Place, Run
from tests.repository.s3_server import CREDENTIALS, s3_server

PRACTICE_JOB = Path(__file__).parent.parent / "jobs" / "practice_job.py"


@pytest.fixture
def one_of_each(place: Place) -> None:
    """Rules that keep the last point of each VM."""
    place.write(hosts=place.dead(), more="keep = { last = 1 }")


def left(place: Place) -> set[str]:
    return {point.id for point in Repository.open(place.vault).points()}


class CancelledWhen(JobContext):
    """What a job's work is given; the job is cancelled as soon as something is so."""

    def __init__(self, journal: Journal, job: Job, moment: Callable[[], bool]) -> None:
        super().__init__(journal, job)
        self._moment = moment

    def raise_if_cancelled(self) -> None:
        self.cancelled = self.cancelled or self._moment()
        super().raise_if_cancelled()


def work_here(
    journal: Journal, spec: msgspec.Struct, cancelled_when: Callable[[], bool] = lambda: False
) -> tuple[Job, JobContext]:
    """A job as its own process sees it, in this process."""
    content = msgspec.json.encode(spec)
    number = journal.insert(kind="x", subject="vault", host="", spec=content, lock=None, again="", untouched="")
    job = journal.job(number)
    return job, CancelledWhen(journal, job, cancelled_when)


@pytest.fixture
def both_at_work(place: Place, journal: Journal, tmp_path: Path, points: tuple[Point, ...]) -> Iterator[None]:
    """Jobs hold the locks of a verification and of a pruning until the test is over."""
    until = tmp_path / "until"
    spec = json.dumps({"do": "wait", "began": str(tmp_path / "began"), "until": str(until)}).encode()
    prefix = [sys.executable, str(PRACTICE_JOB), str(journal.state_dir)]
    with Repository.open(place.vault) as repository:
        jobs = [
            launch(journal, kind, "vault", "", spec, lock=f"{kind}:{repository.id}", argv_prefix=prefix)
            for kind in ("verify", "prune")
        ]
    yield
    until.touch()
    for job in jobs:
        list(follow(journal, job.id, look_s=0.05))


def test_a_verification_is_a_job_that_can_be_left_and_followed(
    newhope: Run, journal: Journal, points: tuple[Point, ...]
) -> None:
    launched = newhope("repo", "verify", "--full", "--detach", "--json")
    followed = newhope("jobs", "follow", launched.document["job"]["id"])

    assert (launched.code, followed.code) == (ExitCode.OK, ExitCode.OK)
    assert "vault is sound: 3 recovery points, 3 packs of 3 read" in followed.out
    (job,) = journal.jobs()
    assert (job.kind, job.subject, job.state) == ("verify", "vault", JobState.DONE)
    assert [step.title for step in job.steps] == list(TITLES.values())
    assert job.steps[2].done_bytes == job.steps[2].total_bytes > 700_000
    assert "verify" in newhope("jobs").out


def test_a_verification_that_finds_damage_fails_with_the_status_of_a_damaged_repository(
    newhope: Run, place: Place, journal: Journal, points: tuple[Point, ...]
) -> None:
    # The newest: the points share what the older ones hold.
    packs = [path for path in place.vault.glob("packs/*/*") if path.is_file()]
    max(packs, key=lambda path: path.stat().st_mtime_ns).unlink()

    launched = newhope("repo", "verify", "--detach", "--json").document["job"]["id"]
    followed = newhope("jobs", "follow", launched)

    assert followed.code == ExitCode.REPOSITORY
    assert "vault is damaged: 1 finding, 1 recovery point not whole." in followed.err
    assert followed.labels == ["what", "untouched", "next"]


def test_a_cancelled_verification_keeps_what_it_has_done_and_the_next_goes_on(
    newhope: Run, place: Place, journal: Journal, points: tuple[Point, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    add = VerifyLog.add
    monkeypatch.setattr(VerifyLog, "add", lambda log, pack, what: (add(log, pack, what), read.append(pack)))
    spec = VerifyJob("vault", VerifyRequest(Extent.FULL))
    job, context = work_here(journal, spec, lambda: bool(read))

    with pytest.raises(Cancelled):
        verify_repository(load(place.settings_file), job, context)

    plan = newhope("repo", "verify", "--full", "--dry-run", "--json").document["plan"]
    assert plan["resumes"] is not None
    assert plan["packs_to_read"] == 2
    assert newhope("repo", "verify", "--full").code == ExitCode.OK
    assert newhope("repo", "verify", "--full", "--dry-run", "--json").document["plan"]["resumes"] is None


@pytest.mark.parametrize("verb", ["verify", "prune"])
def test_a_second_one_of_a_repository_is_refused_with_the_name_of_the_first(
    newhope: Run, both_at_work: None, verb: str
) -> None:
    answer = newhope("repo", verb)

    assert answer.code == ExitCode.CONFLICT
    assert f"A {verb} of vault cannot start" in answer.err
    assert "newhope jobs follow" in answer.err


def test_a_verification_by_path_and_one_by_name_are_of_one_repository(
    newhope: Run, place: Place, both_at_work: None
) -> None:
    assert newhope("repo", "verify", place.vault).code == ExitCode.CONFLICT


def test_a_pruning_is_a_job_that_tells_what_it_did(
    newhope: Run, place: Place, journal: Journal, points: tuple[Point, ...], one_of_each: None
) -> None:
    answer = newhope("repo", "prune", "--yes")

    assert answer.code == ExitCode.OK
    (job,) = journal.jobs()
    assert (job.kind, job.subject, job.state) == ("prune", "vault", JobState.DONE)
    assert job.result.startswith("Dropped 1 recovery point, deleted 1 pack, freed 256 KiB.")
    assert job.result in answer.out
    assert left(place) == {points[0].id, points[1].id}


def pruning(
    journal: Journal, point: Point, cancelled_when: Callable[[], bool] = lambda: False
) -> tuple[Job, JobContext]:
    spec = PruneJob("vault", (PointToDrop(point.manifest.vm.uuid, point.id),), 0)
    return work_here(journal, spec, cancelled_when)


@pytest.mark.parametrize("moment", ["dropped", "condemned"])
def test_a_cancelled_pruning_leaves_the_rest_to_the_next_run(
    newhope: Run, place: Place, journal: Journal, points: tuple[Point, ...], moment: str
) -> None:
    moments: dict[str, Callable[[], bool]] = {
        "dropped": lambda: points[2].id not in left(place),
        "condemned": lambda: any(place.vault.glob("condemned/*")),
    }

    with pytest.raises(Cancelled):
        prune_repository(load(place.settings_file), *pruning(journal, points[2], moments[moment]))

    assert left(place) == {points[0].id, points[1].id}
    assert len(list(place.vault.glob("packs/*/*"))) == 3
    assert not list(place.vault.glob("leases/*"))
    assert newhope("repo", "prune", "--yes", "--json").document["prune"]["collected"]["deleted_packs"] == 1


def test_what_was_shown_is_dropped_as_far_as_it_is_still_there(
    place: Place, journal: Journal, points: tuple[Point, ...]
) -> None:
    settings = load(place.settings_file)
    prune_repository(settings, *pruning(journal, points[2]))

    done = prune_repository(settings, *pruning(journal, points[2]))

    assert done.sentence.startswith("Dropped 0 recovery points")


def test_a_point_that_was_pinned_after_it_was_shown_stays(
    place: Place, journal: Journal, points: tuple[Point, ...]
) -> None:
    with Repository.open(place.vault) as repository:
        repository.pin(points[2], why="an audit", by="ana")

    with pytest.raises(Conflict, match="pinned by ana"):
        prune_repository(load(place.settings_file), *pruning(journal, points[2]))

    assert len(left(place)) == 3


def test_both_work_in_object_storage(newhope: Run, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place.folder))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server:
        server.make_bucket("far")
        place.write(more=f'[repositories.far]\npath = "s3://far/vault"\nendpoint = "{server.endpoint}"')

        assert newhope("repo", "init", "far", "--no-encryption").code == ExitCode.OK
        assert "+ SOUND  far" in newhope("repo", "verify", "far", "--full").out
        assert newhope("repo", "verify", f"s3://far/vault?endpoint={server.endpoint}").code == ExitCode.OK
        assert "Dropped 0 recovery points" in newhope("repo", "prune", "far").out
        assert newhope("repo", "pin", "web@latest", "--repository", "far").code == ExitCode.NOT_FOUND
