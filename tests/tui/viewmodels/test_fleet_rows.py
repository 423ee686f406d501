import pytest

from engine.hosts.model import HostStatus
from tests.builders import NOW, make_fleet, make_host, make_point, make_settings, make_vm, uuid_of
from tests.tui.pictures import busy_fleet, make_job, make_picture, row_of, texts
from tui.viewmodels.fleet_rows import ALL_HOSTS, host_table, repository_table, summary_line, vm_glance, vm_table
from tui.viewmodels.picture import Picture, find_view
from tui.viewmodels.text import Table, plain_text


def names(table: Table) -> list[str]:
    place = [column.key for column in table.columns].index("vm")
    return [row.cells[place].text for row in table.rows]


def test_the_worst_protected_vm_comes_first() -> None:
    picture = make_picture(busy_fleet())

    assert names(vm_table(picture, 80)) == ["build", "db", "mail", "web"]


def test_the_age_of_the_newest_point_is_held_against_the_level() -> None:
    row = row_of(vm_table(make_picture(busy_fleet()), 80), uuid_of("db"))

    assert row["protected"] == "! LATE"
    assert row["age"] == "5h00"
    assert row["level"] == "gold 1h"


def test_every_state_is_a_word_and_not_only_a_colour() -> None:
    for row in vm_table(make_picture(busy_fleet()), 80).rows:
        assert row.cells[0].text.lstrip("+x!?- ") in {"OK", "LATE", "NEVER", "NONE", "UNKN", "GONE"}


def test_a_dead_host_is_a_row_and_its_vms_stay_with_a_question_mark() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", status=HostStatus.STALE, vms=[make_vm("web")]), make_host("yavin")])
    picture = make_picture(fleet, settings=make_settings(hosts=("alderaan", "yavin")))

    assert row_of(host_table(picture, 80), "alderaan")["state"] == "! STALE 2h00"
    assert row_of(vm_table(picture, 80), uuid_of("web"))["state"] == "? RUN"


def test_a_host_that_never_answered_is_offline_and_claims_nothing() -> None:
    fleet = make_fleet(hosts=[make_host("hoth", status=HostStatus.OFFLINE)])
    row = row_of(host_table(make_picture(fleet, settings=make_settings(hosts=("hoth",))), 80), "hoth")

    assert row["state"] == "x OFFLINE"
    assert (row["memory"], row["pool"], row["run"]) == ("-", "-", "?")


def test_a_vm_whose_host_is_gone_can_still_be_seen_and_restored() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", status=HostStatus.OFFLINE)], points=[make_point("web", age="2h")])
    picture = make_picture(fleet, settings=make_settings(hosts=("alderaan",)))

    row = row_of(vm_table(picture, 80), uuid_of("web"))

    assert row["state"] == "? UNKN"
    assert row["protected"] == "! LATE"


def test_a_vm_that_was_removed_is_gone_and_needs_nobody() -> None:
    picture = make_picture(make_fleet(points=[make_point("old", age="9d")]))

    assert row_of(vm_table(picture, 80), uuid_of("old"))["protected"] == "- GONE"
    assert names(vm_table(picture, 80, faults_only=True)) == ["web"]


def test_a_host_shows_only_its_vms() -> None:
    assert names(vm_table(make_picture(busy_fleet()), 80, host="coruscant")) == ["build"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("we", ["web"]),
        ("WEB", ["web"]),
        ("alderaan !web", ["db", "mail"]),
        ("late", ["db"]),
        ("coruscant never", ["build"]),
        ("nothing-like-it", []),
    ],
)
def test_a_filter_takes_words_in_any_order_and_leaves_words_out(wanted: str, found: list[str]) -> None:
    assert names(vm_table(make_picture(busy_fleet()), 80, wanted=wanted)) == found


def test_faults_are_what_needs_somebody() -> None:
    assert names(vm_table(make_picture(busy_fleet()), 80, faults_only=True)) == ["build", "db"]


def test_a_backup_in_work_is_told_in_the_row() -> None:
    picture = make_picture(busy_fleet(), jobs=[make_job()])

    assert row_of(vm_table(picture, 80), uuid_of("web"))["newest"] == "in work"


@pytest.mark.parametrize("width", [40, 56, 60, 80, 100, 140, 200])
def test_every_table_fits_its_width(width: int) -> None:
    picture = make_picture(busy_fleet())

    for table in (vm_table(picture, width), host_table(picture, width), repository_table(picture, width)):
        assert sum(column.width + 1 for column in table.columns) <= width
        assert all(len(row.cells) == len(table.columns) for row in table.rows)


def test_no_settings_yet_says_what_to_do_next() -> None:
    settings = make_settings(hosts=(), repositories=(), levels=())
    picture = make_picture(make_fleet(hosts=(), repositories=()), settings=settings)

    said = " ".join(texts(host_table(picture, 80).empty))

    assert "newhope init" in said
    assert "newhope lab up" in said


def test_before_the_first_answer_everything_is_loading_and_nothing_is_claimed() -> None:
    picture = Picture(make_settings(), NOW)

    assert row_of(host_table(picture, 80), "alderaan")["state"] == "? ASKING"
    assert "LOADING" in texts(vm_table(picture, 80).empty)[0]


def test_an_offline_host_without_vms_says_why_and_what_to_do() -> None:
    fleet = make_fleet(hosts=[make_host("hoth", status=HostStatus.OFFLINE), make_host("yavin")])
    picture = make_picture(fleet, settings=make_settings(hosts=("hoth", "yavin")))

    said = texts(vm_table(picture, 80, host="hoth").empty)

    assert said == ["OFFLINE  no route to host", "Next: ping hoth"]


def test_the_summary_counts_each_word() -> None:
    text = plain_text(summary_line(make_picture(busy_fleet(), jobs=[make_job()])))

    assert text.startswith("HOSTS 3  VMS 4  │ NEVER 1  LATE 1  OK 2  │ jobs 1 running")


def test_the_glance_tells_the_worst_finding_and_its_fix() -> None:
    picture = make_picture(busy_fleet())

    said = "\n".join(texts(vm_glance(picture, find_view(picture, "build"), 60)))

    assert "NEVER" in said
    assert "newhope backup build" in said


def test_a_vm_of_a_host_that_is_no_longer_configured_is_among_all_hosts() -> None:
    fleet = make_fleet(hosts=[make_host("coruscant")], points=[make_point("web")])
    picture = make_picture(fleet, settings=make_settings(hosts=("coruscant",)))

    assert host_table(picture, 80).rows[0].key == ALL_HOSTS
    assert names(vm_table(picture, 80)) == ["web"]
