"""`newhope repo sync`: shows what it would copy, copies it as a job, and is gone on with by being called again."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from engine.cli import sync_job
from engine.cli.sync_job import StandingLimits
from engine.errors import ExitCode
from engine.jobs import JobState, Journal
from engine.repository import Point, Repository
from engine.repository.manifest import point_key
from engine.settings import load
from tests.cli.conftest import Place, Run


@pytest.fixture(autouse=True)
def jobs_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's process starts in another folder, and must find the code under test there too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def far(place: Place, points: tuple[Point, ...]) -> Path:
    """An empty second repository, with blocks of another size."""
    place.write(hosts=place.dead(), more=f'[repositories.far]\npath = "{place.folder}/far"')
    Repository.create(place.folder / "far", name="far", block_bytes=65536)
    return place.folder / "far"


def originals(folder: Path) -> set[str]:
    return {point.original_id for point in Repository.open(folder).points()}


def test_a_dry_run_shows_what_would_be_copied_and_copies_nothing(
    newhope: Run, far: Path, points: tuple[Point, ...]
) -> None:
    answer = newhope("repo", "sync", "vault", "far", "--dry-run")

    assert answer.code == ExitCode.OK
    assert [line.split()[:3] for line in answer.out.splitlines()[1:4]] == [
        ["copy", point.manifest.vm.name, point.id[:8]] for point in points
    ]
    assert "3 recovery points to copy from vault to far, 0 there already." in answer.out
    assert originals(far) == set()
    document = newhope("repo", "sync", "vault", "far", "--dry-run", "--json").document
    assert [point["id"] for point in document["plan"]["copies"]] == [point.id for point in points]
    assert document["plan"]["transfer_bytes"] > 250_000


def test_it_copies_as_a_job_and_has_nothing_left_to_do_afterwards(
    newhope_process: Run, far: Path, points: tuple[Point, ...], journal: Journal
) -> None:
    answer = newhope_process("repo", "sync", "vault", "far", "--verify")

    assert answer.code == ExitCode.OK, answer.err
    assert "3 recovery points copied from vault to far" in answer.out
    assert originals(far) == {point.id for point in points}
    (job,) = journal.jobs()
    assert (job.kind, job.subject, job.state) == ("sync", "vault to far", JobState.DONE)
    assert job.steps[0].title == "compare"
    assert len(job.steps) == 4
    assert job.done_bytes == job.total_bytes > 0

    again = newhope_process("repo", "sync", "vault", "far", "--json")
    assert again.document["job"]["result"].startswith("0 recovery points copied")
    assert "repo sync vault far" in again.document["job"]["again"]


def test_a_sync_that_was_cancelled_goes_on_when_it_is_started_again(
    newhope_process: Run, far: Path, points: tuple[Point, ...], journal: Journal
) -> None:
    # At this limit it would take minutes: it is still at work when it is cancelled.
    launched = newhope_process("repo", "sync", "vault", "far", "--limit", "1KiB", "--detach", "--json")
    job = launched.document["job"]["id"]

    assert newhope_process("jobs", "cancel", job).code == ExitCode.OK
    assert newhope_process("jobs", "follow", job).code == ExitCode.CANCELLED
    assert journal.job(job).state is JobState.CANCELLED
    assert len(originals(far)) < 3

    assert newhope_process("repo", "sync", "vault", "far").code == ExitCode.OK
    assert originals(far) == {point.id for point in points}


def test_a_damaged_point_is_refused_by_name_and_the_others_are_copied(
    newhope_process: Run, place: Place, far: Path, points: tuple[Point, ...]
) -> None:
    key = point_key(points[0])
    (place.vault / key).write_bytes((place.vault / key).read_bytes()[:-1])

    answer = newhope_process("repo", "sync", "vault", "far")

    assert answer.code == ExitCode.REPOSITORY
    assert key in answer.err
    assert "2 recovery points copied" in answer.err
    assert originals(far) == {points[1].id, points[2].id}


def test_copies_whose_point_is_gone_stay_unless_their_going_is_asked_for(
    newhope_process: Run, place: Place, far: Path, points: tuple[Point, ...]
) -> None:
    newhope_process("repo", "sync", "vault", "far")
    (place.vault / point_key(points[2])).unlink()

    newhope_process("repo", "sync", "vault", "far")
    assert len(originals(far)) == 3
    unasked = newhope_process("repo", "sync", "vault", "far", "--delete")
    assert (unasked.code, len(originals(far))) == (ExitCode.USAGE, 3)
    done = newhope_process("repo", "sync", "vault", "far", "--delete", "--yes")

    assert "1 copy dropped" in done.out
    assert originals(far) == {points[0].id, points[1].id}


def test_paths_will_do_where_there_are_no_settings(
    newhope_process: Run, place: Place, points: tuple[Point, ...]
) -> None:
    Repository.create(place.folder / "usb")

    answer = newhope_process("repo", "sync", "vault", "./usb", "--vm", "web", "--newest", "1", cwd=place.folder)

    assert answer.code == ExitCode.OK, answer.err
    assert originals(place.folder / "usb") == {points[0].id}


def test_what_cannot_be_meant_is_refused_before_anything_runs(
    newhope: Run, far: Path, journal: Journal, points: tuple[Point, ...]
) -> None:
    assert newhope("repo", "sync", "vault", "vault").code == ExitCode.CONFLICT
    assert newhope("repo", "sync", "vault", "fra").code == ExitCode.NOT_FOUND
    assert newhope("repo", "sync", "vault", "far", "--limit", "2").code == ExitCode.USAGE
    assert newhope("repo", "sync", "vault", "far", "--vm", "wbe").code == ExitCode.NOT_FOUND
    assert journal.jobs() == ()


def test_a_second_sync_of_the_same_two_is_told_of_the_first(
    newhope: Run, place: Place, far: Path, journal: Journal
) -> None:
    journal.insert(
        kind="sync", subject="vault to far", host="", spec=b"{}", lock="sync:vault:far", again="", untouched=""
    )

    answer = newhope("repo", "sync", "vault", "far")

    assert answer.code == ExitCode.CONFLICT
    assert "is at work on the same thing" in answer.err


def test_a_point_and_its_copy_are_one_point_in_the_list(
    newhope: Run, newhope_process: Run, far: Path, points: tuple[Point, ...]
) -> None:
    newhope_process("repo", "sync", "vault", "far", "--vm", "web")

    lines = newhope("points").out.splitlines()[1:]

    assert [line.split()[0] for line in lines] == [point.id[:8] for point in points]
    assert [line.split()[-1] for line in lines] == ["vault,far", "vault", "vault,far"]


def test_the_one_before_is_not_a_copy_of_the_latest(
    newhope: Run, newhope_process: Run, place: Place, far: Path, points: tuple[Point, ...]
) -> None:
    newhope_process("repo", "sync", "vault", "far")
    copies = {point.original_id: point for point in Repository.open(far).points()}

    shown = newhope("points", "show", "web@-1", "--json").document["point"]
    by_id = newhope("points", "show", f"web@{points[0].id[:8]}", "--json").document["point"]
    from_far = newhope("points", "show", f"web@{points[0].id[:8]}", "--repository", "far", "--json").document["point"]

    assert shown["id"] == points[2].id
    assert by_id["id"] == points[0].id
    assert from_far["id"] == copies[points[0].id].id
    shutil.rmtree(place.vault)
    assert newhope("points", "show", f"web@{points[0].id[:8]}").code == ExitCode.OK


def test_a_limit_that_is_changed_while_it_runs_counts(place: Place, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr(sync_job, "monotonic", lambda: now_s[0])
    limits = StandingLimits(load(place.settings_file))
    from datetime import UTC, datetime

    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    plain, capped = limits.of("far", lambda: None), limits.of("far", lambda: 1 << 20)
    assert (plain(noon), capped(noon)) == (None, 1 << 20)

    def change(more: str, number: int) -> None:
        place.write(hosts=place.dead(), more=f'[repositories.far]\npath = "{far}"\n{more}')
        os.utime(place.settings_file, (number, number))
        now_s[0] += 10

    change('bandwidth_hours = [{ from = "11:00", to = "13:00", limit = "512KiB" }]', 1)
    assert (plain(noon), capped(noon)) == (512 << 10, 512 << 10)
    assert plain(noon + timedelta(hours=1)) is None
    change('bandwidth = "nonsense"', 2)
    assert plain(noon) == 512 << 10
    change('bandwidth = "2MiB"', 3)
    assert (plain(noon), capped(noon)) == (2 << 20, 1 << 20)
