"""What a settings file says, and everything that is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.settings import Host, Level, Method, Repository, SettingsError, default_state, load, read_text
from tests.settings.problems_of_text import FILE, WHOLE, host, level, only_problem_of, problems_of


def test_a_whole_file_is_read_into_values() -> None:
    settings = read_text(WHOLE, FILE)

    assert settings.file == FILE
    assert settings.state == Path("/var/lib/newhope")
    assert settings.hosts[0] == Host(
        name="alderaan",
        uri="qemu+unix:///session?socket=/run/lab/alderaan.sock",
        pool="default",
        scratch=Path("/run/lab/scratch"),
        places={"site": "north", "rack": "r1", "power": "feed-a", "disk": "nvme-1"},
    )
    assert settings.hosts[1] == Host(name="yavin", uri="qemu+ssh://root@yavin/system")
    assert settings.repositories == (
        Repository(name="vault", path=Path("/srv/newhope"), on_host="yavin", places={"site": "north"}),
    )
    assert settings.levels == (
        Level(name="gold", rpo_s=3600, rto_s=900, method=Method.HOT, copies=2, vms=("web*", "db-*")),
        Level(name="silver", rpo_s=129600, rto_s=14400, method=Method.COLD, default=True),
    )


def test_the_state_lies_in_the_xdg_folder_when_the_file_does_not_say() -> None:
    assert read_text(host(""), FILE).state == default_state()


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
stat = "/x"
[hosts.alderaan]
uri = "quemu:///system"
pol = "default"
[repositories.vault]
on_host = "alderan"
[levels.gold]
rpo = "0s"
rto = "soon"
copies = 0
vms = ["", "web"]
"""

    problems = problems_of(text)

    assert [(problem.line, problem.key) for problem in problems] == [
        (1, "stat"),
        (3, "hosts.alderaan.uri"),
        (4, "hosts.alderaan.pol"),
        (5, "repositories.vault"),
        (8, "levels.gold.rpo"),
        (9, "levels.gold.rto"),
        (10, "levels.gold.copies"),
        (11, "levels.gold.vms[0]"),
    ]
    assert all(problem.what.endswith(".") and problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ('stat = "/x"\n' + host(""), "stat", "state"),
        (host("pol = 'x'"), "hosts.alderaan.pol", "pool"),
        (host("URI = 'x'"), "hosts.alderaan.URI", "uri"),
        (host("place = {}"), "hosts.alderaan.place", "places"),
        (host("[host.b]\nuri = 'x'"), "host", "hosts"),
        (host("[repository.b]\npath = '/x'"), "repository", "repositories"),
        (host("[repositories.b]\npath = '/x'\nonhost = 'alderaan'"), "repositories.b.onhost", "on_host"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['x']\ncopys = 2"), "levels.gold.copys", "copies"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['x']\ndefautl = true"), "levels.gold.defautl", "default"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_right_name(text: str, key: str, meant: str) -> None:
    problem = only_problem_of(text)

    assert problem.key == key
    assert problem.fix == f'Did you mean "{meant}"?'


def test_an_unknown_key_like_no_other_is_answered_with_all_that_are_known() -> None:
    problem = only_problem_of(host("colour = 'red'"))

    assert problem.fix == "Known here: backups_at_once, places, pool, scratch, scratch_floor, ssh_config and uri."


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("hosts = 3", "hosts", "a number"),
        ("[[hosts]]\nname = 'a'", "hosts", "a list"),
        ("[hosts]\nalderaan = 'qemu:///system'", "hosts.alderaan", "a text"),
        ("[hosts.a]\nuri = 3", "hosts.a.uri", "a number"),
        ("[hosts.a]\nuri = true", "hosts.a.uri", "true or false"),
        ("[hosts.a]\nuri = ['x']", "hosts.a.uri", "a list"),
        (host("pool = 1979-05-27"), "hosts.alderaan.pool", "a date"),
        (host("pool = 07:32:00"), "hosts.alderaan.pool", "time"),
        (host("places = 'north'"), "hosts.alderaan.places", "a text"),
        (host("places = { rack = 3 }"), "hosts.alderaan.places.rack", "a number"),
        (host("scratch = 3"), "hosts.alderaan.scratch", "a number"),
        ("state = 3\n" + host(""), "state", "a number"),
        ("[repositories.a]\npath = {}", "repositories.a.path", "a table"),
        (level("rpo = '1h'\nrto = '1h'\ndefault = 'yes'"), "levels.gold.default", "a text"),
        (level("rpo = '1h'\nrto = '1h'\ndefault = 1"), "levels.gold.default", "a number"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['a']\ncopies = '2'"), "levels.gold.copies", "a text"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['a']\ncopies = 1.5"), "levels.gold.copies", "a number"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['a']\ncopies = true"), "levels.gold.copies", "true or false"),
        (level("rpo = '1h'\nrto = '1h'\nvms = 'web*'"), "levels.gold.vms", "a text"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['web*', 3]"), "levels.gold.vms[1]", "a number"),
        (level("rpo = true\nrto = '1h'\nvms = ['a']"), "levels.gold.rpo", "true or false"),
        (level("rpo = '1h'\nrto = 1.5\nvms = ['a']"), "levels.gold.rto", "a number"),
        (level("rpo = '1h'\nrto = '1h'\nvms = ['a']\nmethod = 3"), "levels.gold.method", "a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_in_words(text: str, key: str, words: str) -> None:
    found = [problem for problem in problems_of(text) if problem.key == key]

    assert len(found) == 1
    assert words in found[0].what


@pytest.mark.parametrize(
    ("text", "key", "offered"),
    [
        ('[repositories.a]\npath = "vault"', "repositories.a.path", "/etc/newhope/vault"),
        ('state = "state"\n' + host(""), "state", "/etc/newhope/state"),
        (host('scratch = "tmp"'), "hosts.alderaan.scratch", "/tmp"),
        ('[repositories.a]\npath = "~/vault"', "repositories.a.path", str(Path.home() / "vault")),
    ],
)
def test_a_relative_path_is_refused_and_a_whole_one_offered(text: str, key: str, offered: str) -> None:
    problem = only_problem_of(text)

    assert problem.key == key
    assert "absolute" in problem.what
    assert f'"{offered}"' in problem.fix


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[hosts.a]\nuri = ""', "hosts.a.uri"),
        (host('pool = " "'), "hosts.alderaan.pool"),
        (host('places = { rack = "" }'), "hosts.alderaan.places.rack"),
        ('[repositories.a]\npath = ""', "repositories.a.path"),
        (level('rpo = ""\nrto = "1h"\nvms = ["a"]'), "levels.gold.rpo"),
    ],
)
def test_an_empty_text_is_refused(text: str, key: str) -> None:
    problem = only_problem_of(text)

    assert problem.key == key
    assert problem.what == "It is empty."


def test_a_path_with_a_nul_character_is_refused() -> None:
    assert "NUL" in only_problem_of('[repositories.a]\npath = "/srv\\u0000x"').what


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[hosts.a]\nuri = qemu:///system\n", 2, "quotes"),
        ("[hosts.a]\nuri = 'x\n", 2, "quotes"),
        ('[hosts.a]\nuri = "x\n', 2, "quotes"),
        ("[hosts.a\nuri = 'x'\n", 1, "bracket"),
        ("[hosts.a]\n\nuri\n", 3, "name ="),
        ("[hosts.a]\nuri = 'x'\nuri = 'y'\n", 3, "Keep one"),
        ("[hosts.a]\n[hosts.a]\n", 2, "Keep one"),
        ("[levels.a]\nvms = [\n'a',\n\n\n", 3, "bracket"),
        ("[levels.a]\nvms = '''a\nb\n", 2, "quotes"),
    ],
)
def test_a_syntax_error_is_told_with_its_line(text: str, line: int, words: str) -> None:
    problem = only_problem_of(text)

    assert problem.line == line
    assert "not TOML" in problem.what
    assert words in problem.fix


def test_an_empty_file_is_told_how_to_begin() -> None:
    problem = only_problem_of("")

    assert "neither a host nor a repository" in problem.what
    assert "newhope init" in problem.fix


def test_a_repository_alone_is_enough_to_look_into_it() -> None:
    settings = read_text('[repositories.v]\npath = "/v"\n', FILE)

    assert settings.hosts == ()


def test_deep_nesting_is_refused_instead_of_failing() -> None:
    text = "a = " + "[" * 5000 + "]" * 5000

    assert problems_of(text)


def test_a_missing_file_leads_to_the_commands_that_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "newhope.toml")

    assert str(tmp_path / "newhope.toml") in caught.value.what
    assert "newhope init" in caught.value.next_step
    assert "newhope lab up" in caught.value.next_step
    assert caught.value.exit_code is ExitCode.SETTINGS


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="It is a folder"):
        load(tmp_path)


def test_a_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "file" / "newhope.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user_is_told(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"
    file.write_text(WHOLE)
    file.chmod(0)

    with pytest.raises(SettingsError, match="may not read"):
        load(file)


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"
    file.write_bytes(b"[hosts.a]\nuri = 'qemu:///system'\npool = 'gr\xf6\xdfe'\n")

    with pytest.raises(SettingsError) as caught:
        load(file)

    assert caught.value.problems[0].line == 3
    assert "0xf6" in caught.value.problems[0].what


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"
    file.write_text(WHOLE, encoding="utf-8-sig")

    assert len(load(file).hosts) == 2


def test_the_error_of_one_problem_is_one_sentence_with_its_place() -> None:
    with pytest.raises(SettingsError) as caught:
        read_text(host("pol = 'x'"), FILE)

    assert caught.value.what == (
        "The settings in /etc/newhope/newhope.toml cannot be used. Line 3, hosts.alderaan.pol: "
        'There is no setting "pol" here.'
    )
    assert caught.value.next_step == 'Did you mean "pool"?'


def test_the_error_of_several_problems_lists_each_with_its_fix() -> None:
    with pytest.raises(SettingsError) as caught:
        read_text(host("pol = 'x'\nscratch = 3"), FILE)

    assert "2 problems" in caught.value.what
    assert 'line 3, hosts.alderaan.pol: There is no setting "pol" here. Did you mean "pool"?' in caught.value.what
    assert "line 4, hosts.alderaan.scratch" in caught.value.what
