from msgspec.structs import replace

from engine import backup
from engine.hosts.model import AgentState
from engine.settings import Method
from tests.builders import make_fleet, make_host, make_host_facts, make_level, make_settings, make_vm
from tests.tui.pictures import make_picture, row_of, texts
from tui.viewmodels.backup_guide import Option, candidates, command, confirm_lines, option_table, plan_block
from tui.viewmodels.picture import Picture, VmView, find_view


def local_picture(**changes) -> Picture:
    host = make_host(vms=[make_vm(**changes)], facts=make_host_facts(local=True))
    return make_picture(make_fleet(hosts=[host]), settings=make_settings(repositories=("vault", "attic")))


def view_of(picture: Picture) -> VmView:
    view = find_view(picture, "web")
    assert view is not None
    return view


def planned(picture: Picture) -> tuple[Option, ...]:
    view = view_of(picture)
    assert picture.fleet is not None
    return tuple(
        replace(
            option,
            plan=backup.plan(
                picture.settings,
                picture.fleet,
                backup.Request(view.uuid, view.name, view.host, option.repository, option.method),
            ),
        )
        for option in candidates(picture, view)
    )


def test_the_levels_method_is_offered_first() -> None:
    picture = local_picture()
    cold = make_picture(picture.fleet, settings=make_settings(levels=[make_level(method=Method.COLD)]))

    assert [option.key for option in candidates(picture, view_of(picture))] == [
        "hot/vault", "hot/attic", "cold/vault", "cold/attic",
        "paused/vault", "paused/attic", "memory/vault", "memory/attic",
    ]  # fmt: skip
    assert candidates(cold, view_of(cold))[0].method is Method.COLD


def test_each_choice_says_in_words_what_it_means() -> None:
    picture = local_picture()
    table = option_table(candidates(picture, view_of(picture)), picture, view_of(picture))

    assert row_of(table, "hot/vault")["means"] == "the guest keeps running (level gold)"
    assert "shuts down" in row_of(table, "cold/vault")["means"]


def test_the_plan_tells_what_the_guest_will_notice_and_what_the_other_method_would_do() -> None:
    picture = local_picture()
    options = planned(picture)

    said = " ".join(texts(plan_block(options[0], view_of(picture), 200, options)))

    assert "what hot does to web" in said
    assert "it keeps running" in said
    assert "cold instead: Its users lose it for the time of a reboot" in said
    assert "newhope backup web --method hot --repository vault" in said


def test_what_makes_the_point_weaker_is_marked() -> None:
    picture = local_picture(agent=AgentState.ABSENT)

    said = texts(plan_block(planned(picture)[0], view_of(picture), 200))

    assert any(text.startswith("  ! It has no channel for a guest agent") for text in said)


def test_an_option_that_is_refused_shows_only_why() -> None:
    picture = local_picture()
    refused = Option(Method.HOT, "vault", refusal=(("x",),))

    assert plan_block(refused, view_of(picture), 80) == (("x",),)


def test_the_confirmation_repeats_what_will_be_noticed() -> None:
    picture = local_picture()
    cold = next(option for option in planned(picture) if option.method is Method.COLD)

    said = " ".join(texts(confirm_lines(cold, view_of(picture), 76)))

    assert "Back up web on alderaan into vault, cold." in said
    assert "Its users lose it" in said


def test_a_name_that_a_shell_would_split_is_quoted() -> None:
    picture = local_picture()
    odd = replace(view_of(picture), name="web server")

    assert "'web server'" in command(odd, Option(Method.HOT, "vault"))


def test_without_a_repository_the_next_step_is_to_make_one() -> None:
    picture = make_picture(settings=make_settings(repositories=()))
    table = option_table((), picture, view_of(picture))

    assert "newhope repo init" in " ".join(texts(table.empty))
