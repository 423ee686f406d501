"""Recovery points as they are listed and named."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import NotFound
from engine.repository import Point, Repository, parse_point_name, select_point
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.manifest import point_key, read_manifest, write_manifest
from tests.repository.building import DB, WEB, back_up, facts, later, mixed_disk


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", name="vault", block_bytes=4096)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def points(repository: Repository, berlin: None) -> tuple[Point, ...]:
    """Three of one day, at 09:13, 10:13 and 11:13 Berlin time, and one of the day before."""
    for minutes in (-24 * 60, 0, 60, 120):
        back_up(repository, b"content", moment=later(minutes))
    return repository.points(WEB)


def test_points_are_listed_newest_first_and_by_vm(repository: Repository):
    for minutes in (60, 0, 120):
        back_up(repository, b"content", moment=later(minutes))
    back_up(repository, b"content", moment=later(90), vm=facts(DB, "db"))

    assert [point.manifest.moment for point in repository.points(WEB)] == [later(120), later(60), later(0)]
    assert [point.manifest.vm.name for point in repository.points()] == ["web", "db", "web", "web"]
    assert repository.points("99999999-9999-4999-8999-999999999999") == ()


def test_a_point_is_a_file_named_by_vm_time_and_content(repository: Repository, tmp_path: Path):
    point = back_up(repository, b"content")
    (file,) = (tmp_path / "vault/points").rglob("*Z-*")

    assert file.relative_to(tmp_path / "vault").as_posix() == point_key(point)
    assert re.fullmatch(f"points/{WEB}/20261122T081355Z-{point.id}", point_key(point))
    assert point.repository == "vault"
    assert Repository.open(tmp_path / "vault", name="vault").point(WEB, point.id) == point


def test_a_point_that_is_not_there_is_not_found(repository: Repository):
    back_up(repository, b"content")

    with pytest.raises(NotFound, match="vault"):
        repository.point(WEB, "0" * 16)


def test_a_point_that_was_deleted_is_no_longer_listed(repository: Repository, tmp_path: Path):
    point = back_up(repository, b"content")
    assert len(repository.points()) == 1
    (tmp_path / "vault" / point_key(point)).unlink()

    assert repository.points() == ()


def test_a_damaged_point_is_passed_over_and_reported(repository: Repository, tmp_path: Path):
    points = [back_up(repository, b"content", moment=later(minutes)) for minutes in (0, 60, 120)]
    file = tmp_path / "vault" / point_key(points[1])
    content = file.read_bytes()
    for damaged in (content[:-1], b"", content[:50] + b"?" + content[51:], content + b"\0"):
        file.write_bytes(damaged)
        opened = Repository.open(tmp_path / "vault")

        assert [point.id for point in opened.points()] == [points[2].id, points[0].id]
        assert [str(found).partition(":")[0] for found in opened.damaged] == [point_key(points[1])]


def test_a_point_in_another_s_place_is_damaged(repository: Repository, tmp_path: Path):
    first = back_up(repository, b"content", moment=later(0))
    second = back_up(repository, b"other", moment=later(60))
    one, two = (tmp_path / "vault" / point_key(point) for point in (first, second))
    one_content, two_content = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_content)
    two.write_bytes(one_content)

    opened = Repository.open(tmp_path / "vault")
    assert opened.points() == ()
    assert len(opened.damaged) == 2


def test_a_sound_frame_under_a_name_that_is_not_its_content_s_is_damaged(repository: Repository, tmp_path: Path):
    point = back_up(repository, b"content")
    key = point_key(point)
    payload = decode_frame(key, FrameKind.POINT, (tmp_path / "vault" / key).read_bytes())
    for wrong in (key.replace("081355Z", "091355Z"), key.replace(WEB, DB), key[:-1] + "x"):
        (tmp_path / "vault" / wrong).parent.mkdir(exist_ok=True)
        (tmp_path / "vault" / wrong).write_bytes(encode_frame(wrong, FrameKind.POINT, payload))

    assert [found.id for found in repository.points()] == [point.id]
    assert len(repository.damaged) == 3


def test_a_manifest_of_a_future_version_is_passed_over(repository: Repository, tmp_path: Path):
    point = back_up(repository, b"content")
    newer = write_manifest(
        DirectoryStorage(tmp_path / "vault"), replace(point.manifest, version=3, moment=later(9)), "vault"
    )

    assert [found.id for found in repository.points()] == [point.id]
    assert point_key(newer) in str(repository.damaged[0])
    assert "newer newhope" in str(repository.damaged[0])


def test_a_manifest_is_read_back_as_it_was(repository: Repository, tmp_path: Path):
    point = back_up(repository, mixed_disk(20), bytes(5000))

    assert read_manifest(DirectoryStorage(tmp_path / "vault"), point_key(point), "vault") == point


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web@latest", ("web", "latest")),
        ("web", ("web", "latest")),
        ("web@-1", ("web", "-1")),
        ("web@2026-11-22T08:13", ("web", "2026-11-22T08:13")),
        ("me@home@a1b2c3", ("me@home", "a1b2c3")),
    ],
)
def test_a_name_is_a_vm_and_a_selector(text: str, expected: tuple[str, str]):
    assert parse_point_name(text) == expected


@pytest.mark.parametrize("text", ["", "@latest", "web@"])
def test_half_a_name_is_refused_with_the_forms_there_are(text: str):
    with pytest.raises(NotFound, match="VM@SELECTOR"):
        parse_point_name(text)


@pytest.mark.parametrize(
    ("selector", "moment"),
    [
        ("latest", later(120)),
        ("-1", later(60)),
        ("-3", later(-24 * 60)),
        ("2026-11-22T09:13", later(0)),
        ("2026-11-22 09:13", later(0)),
        ("2026-11-22T09:13:55", later(0)),
        ("2026-11-22T08:13Z", later(0)),
        ("2026-11-22T10:13Z", later(120)),
        ("2026-11-22T10", later(60)),
        ("2026-11-21", later(-24 * 60)),
        ("2026-11-22", later(120)),
        ("2026-11", later(120)),
    ],
)
def test_a_selector_means_one_point(points: tuple[Point, ...], selector: str, moment: datetime):
    assert select_point(points, selector).manifest.moment == moment
    assert select_point(points[::-1], selector).manifest.moment == moment


def test_the_first_digits_of_an_id_mean_its_point(points: tuple[Point, ...]):
    for point in points:
        assert select_point(points, point.id[:8]) is point
        assert select_point(points, point.id.upper()) is point


def test_digits_that_several_ids_begin_with_are_refused_with_the_candidates(points: tuple[Point, ...]):
    twins = [replace(points[0], id="abcd" + "0" * 12), replace(points[1], id="abcd" + "1" * 12)]

    with pytest.raises(NotFound, match="2 recovery points") as caught:
        select_point(twins, "abcd")
    assert "abcd00" in caught.value.next_step


def test_a_time_without_a_point_names_the_nearest(points: tuple[Point, ...]):
    with pytest.raises(NotFound) as caught:
        select_point(points, "2026-11-22T10:00")

    nearest = re.findall(r"2026-11-2\dT\d\d:\d\d", caught.value.next_step)
    assert nearest == ["2026-11-22T10:13", "2026-11-22T09:13", "2026-11-22T11:13", "2026-11-21T09:13"]


@pytest.mark.parametrize("selector", ["-4", "-99", "ffff", "2026-13-45T99:99", "2027-01", "abc", "newest", "", "+1"])
def test_what_means_no_point_is_not_found_and_says_what_there_is(points: tuple[Point, ...], selector: str):
    if any(point.id.startswith(selector) for point in points if selector == "ffff"):
        pytest.skip("an id that begins with ffff")
    with pytest.raises(NotFound) as caught:
        select_point(points, selector)

    assert caught.value.next_step


def test_without_points_nothing_is_found():
    with pytest.raises(NotFound, match="no recovery point"):
        select_point((), "latest")


def test_the_hour_that_happens_twice_can_be_named_in_utc(repository: Repository, berlin: None):
    first = back_up(repository, b"a", moment=datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    second = back_up(repository, b"b", moment=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    points = repository.points(WEB)

    assert select_point(points, "2026-10-25T02:30").id == second.id
    assert select_point(points, "2026-10-25T00:30Z").id == first.id
