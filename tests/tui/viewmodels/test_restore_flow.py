import re

import pytest
from msgspec.structs import replace

from engine.hosts.model import HostStatus, VmState
from engine.restore import MacChoice, Mode, NetworkMapping, RestorePlan, plan
from tests.builders import (
    GIB,
    make_fleet,
    make_host,
    make_host_facts,
    make_network,
    make_point,
    make_pool,
    make_vm,
    uuid_of,
)
from tests.tui.pictures import make_picture, row_of, texts
from tui.viewmodels import restore_flow as flow
from tui.viewmodels.picture import Picture
from tui.viewmodels.restore_flow import Draft, Stage
from tui.viewmodels.restore_plan import check_lines, check_table, confirm_lines, plan_block

POINT = make_point("web", age="2h")


def picture_of(**changes) -> Picture:
    hosts = [
        make_host("alderaan", vms=[make_vm("web")]),
        make_host("coruscant", networks=(make_network(), make_network("test")), pools=(make_pool(), make_pool("fast"))),
        make_host("yavin", status=HostStatus.OFFLINE),
    ]
    return make_picture(make_fleet(hosts=hosts, points=[POINT]), **changes)


def draft_to(host: str = "coruscant", **changes) -> Draft:
    return replace(Draft(uuid_of("web"), "web", point=POINT, to_host=host), **changes)


def planned(draft: Draft, picture: Picture) -> RestorePlan:
    request = draft.request()
    assert request is not None and picture.fleet is not None
    return plan(picture.settings, picture.fleet, request)


def test_there_is_no_request_before_there_is_a_point_and_a_host() -> None:
    assert Draft("uuid", "web").request() is None
    assert Draft("uuid", "web", point=POINT).request() is None
    assert draft_to().request() is not None


def test_another_host_forgets_what_was_chosen_for_the_last_one() -> None:
    draft = draft_to(name="web-2", pool="fast", networks=(NetworkMapping(0, "test"),))

    assert flow.with_host(draft, "alderaan") == draft_to("alderaan")
    assert flow.with_host(draft, "coruscant") == draft


def test_hosts_are_ranked_by_fitness_and_a_dead_one_comes_last_with_its_reason() -> None:
    table = flow.target_table(picture_of(), POINT, 80)

    assert table.rows[-1].key == "yavin"
    assert row_of(table, "yavin")["fit"] == "x NO"
    assert "no route to host" in row_of(table, "yavin")["why"]
    assert row_of(table, "alderaan")["why"] == "the original is here"


def test_a_host_with_too_little_memory_says_so() -> None:
    small = make_host("coruscant", facts=make_host_facts("coruscant", memory_bytes=GIB, memory_free_bytes=GIB // 2))
    picture = make_picture(make_fleet(hosts=[small], points=[POINT]))

    fit = flow.ranked_hosts(picture, POINT)[0]

    assert row_of(flow.target_table(picture, POINT, 80), "coruscant")["fit"] != "+ FITS"
    assert any("memory" in text for text in texts(flow.target_lines(fit, picture, 78)))


def test_every_field_has_a_safe_value_from_the_start() -> None:
    picture = picture_of()
    table = flow.mapping_table(draft_to(), planned(draft_to(), picture), picture, 80)

    values = {row.key: row.cells[1].text for row in table.rows}

    assert values["name"] == "web-restored"
    assert values["pool"] in ("default", "fast")
    assert (values["network 0"], values["MACs"], values["start"]) == ("default", "auto", "yes")


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("network 0", {"networks": (NetworkMapping(0, "test"),)}),
        ("MACs", {"macs": MacChoice.KEEP}),
        ("start", {"start": False}),
    ],
)
def test_a_field_goes_through_the_values_the_target_offers(field: str, changed: dict) -> None:
    picture = picture_of()

    assert flow.next_choice(field, draft_to(), planned(draft_to(), picture), picture) == draft_to(**changed)


def test_a_vm_is_started_when_its_disks_are_written_at_once_or_not_at_all() -> None:
    picture, draft = picture_of(), draft_to()
    seen = []

    for _ in range(3):
        draft = flow.next_choice("start", draft, planned(draft, picture), picture)
        seen.append((draft.start, draft.instant))

    assert seen == [(False, False), (True, True), (True, False)]


@pytest.mark.parametrize(
    ("mode", "name", "head"),
    [
        (Mode.BESIDE, "the original stays: a new name beside it", "Bring web back on alderaan as web-restored."),
        (Mode.REPLACE, "the original becomes web-original-", "Bring web back on alderaan, in the place of the one"),
        (
            Mode.DISKS,
            "the volumes are called after it",
            "Write the disks of web to alderaan, named after web-restored.",
        ),
        (Mode.TEST, "the original stays: a new name beside it", "Try web on alderaan as web-test, isolated."),
    ],
)
def test_name_and_question_say_what_becomes_of_the_original(mode: Mode, name: str, head: str) -> None:
    picture, draft = picture_of(), draft_to("alderaan", mode=mode)
    made = planned(draft, picture)

    table = flow.mapping_table(draft, made, picture, 80)

    assert row_of(table, "name")["note"].startswith(name)
    assert texts(confirm_lines(made, picture, 76))[0].startswith(head)
    assert ("network 0" in [row.key for row in table.rows]) is (mode is not Mode.DISKS)


def test_reason_and_ticket_are_for_the_report_and_change_nothing_that_was_accepted() -> None:
    picture, draft = picture_of(), draft_to(accepted=("original",))

    draft = flow.with_value("ticket", " INC-4711 ", flow.with_value("reason", "disk of\talderaan died", draft))
    made = planned(draft, picture)

    assert draft.accepted == ("original",)
    assert flow.with_host(draft, "alderaan").reason == "disk of alderaan died"
    assert "--reason 'disk of alderaan died' --ticket INC-4711" in made.command
    assert row_of(flow.mapping_table(draft, made, picture, 80), "ticket")["value"] == "INC-4711"
    assert "  - Why: disk of alderaan died (INC-4711)" in texts(confirm_lines(made, picture, 76))


def test_after_the_last_value_comes_the_first_again() -> None:
    picture, draft = picture_of(), draft_to()
    seen = []

    for _ in range(5):
        draft = flow.next_choice("network 0", draft, planned(draft, picture), picture)
        seen.append(draft.networks[0].to)

    assert set(seen) == {"default", "test", "user", "none"}


def test_a_typed_name_replaces_the_suggested_one() -> None:
    picture, draft = picture_of(), flow.with_value("name", " web-test ", draft_to())

    assert draft.name == "web-test"
    assert planned(draft, picture).request.name == "web-test"


def test_the_rail_tells_where_the_operator_is_and_what_was_decided() -> None:
    picture, draft = picture_of(), draft_to()

    rail = texts(flow.rail(draft, planned(draft, picture), Stage.CHECKS, picture, 79))

    assert rail[1].startswith(" 2 Target    done  coruscant")
    assert rail[3].startswith(" 4 Checks    here ")
    assert rail[5].startswith(" 6 Confirm   next")
    assert all(len(text) <= 79 for text in rail)


def test_the_title_names_act_vm_moment_and_target() -> None:
    picture = picture_of()

    assert flow.title(Draft("uuid", "web"), picture) == "RESTORE web"
    assert flow.title(draft_to(name="web-2"), picture).endswith("→ coruscant as web-2")


def test_the_plan_lists_every_step_its_bytes_what_stays_and_the_same_command() -> None:
    picture = picture_of()
    made = planned(draft_to(), picture)

    said = texts(plan_block(made, 78))

    assert sum(1 for text in said if re.match(r" {1,2}\d+ [a-z]", text)) == len(made.steps)
    assert any("1.0 GiB to write" in text for text in said)
    assert any(text.startswith("CLI") and "newhope restore web@" in text for text in said)
    assert all(len(text) <= 78 for text in said)


def test_the_plan_says_how_each_step_is_undone_how_long_it_takes_and_from_where_there_is_no_way_back() -> None:
    made = planned(draft_to(), picture_of())
    write = next(step for step in made.steps if step.size_bytes)
    steps = (replace(write, expected_s=75.0), replace(write, no_return=True, undo="nothing undoes it"))

    said = texts(plan_block(replace(made, steps=steps), 78))

    assert any(text.endswith("1:15") for text in said)
    assert any("undo: the volume is deleted" in text for text in said)
    assert "POINT OF NO RETURN" in " ".join(said)
    assert "expected time: unknown, nothing was measured there" in " ".join(said)
    assert all(len(text) <= 78 for text in said)


def test_failed_checks_come_first_and_say_that_they_block() -> None:
    picture, draft = picture_of(), draft_to("alderaan", name="web")
    made = planned(draft, picture)

    table = check_table(made, (), 80)

    assert table.rows[0].cells[0].text == "x FAIL"
    assert "blocks the restore" in " ".join(texts(check_lines(made.checks[0], made, (), 78)))


def test_the_confirmation_repeats_the_warnings() -> None:
    picture = picture_of()

    said = " ".join(texts(confirm_lines(planned(draft_to(), picture), picture, 76)))

    assert "Bring web back on coruscant as web-restored." in said
    assert "As it was 2h00 ago" in said
    assert "! original: web is running on alderaan" in said


def test_a_vm_that_is_gone_gets_its_own_name_back() -> None:
    hosts = [make_host("coruscant"), make_host("alderaan", vms=[make_vm("db", state=VmState.OFF)])]
    picture = make_picture(make_fleet(hosts=hosts, points=[POINT]))

    table = flow.mapping_table(draft_to(), planned(draft_to(), picture), picture, 100)

    assert row_of(table, "name")["value"] == "web"
    assert "the original is gone" in row_of(table, "name")["note"]
