"""What a settings file says, and everything that is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.settings import (
    Host,
    Keep,
    Level,
    Method,
    Problem,
    Repository,
    Rules,
    SettingsError,
    default_state,
    load,
    read_text,
)

FILE = Path("/etc/newhope/newhope.toml")

WHOLE = """\
state = "/var/lib/newhope"

[hosts.alderaan]
uri = "qemu+unix:///session?socket=/run/lab/alderaan.sock"
pool = "default"
scratch = "/run/lab/scratch"
places = { site = "north", rack = "r1", power = "feed-a", disk = "nvme-1" }

[hosts.yavin]
uri = "qemu+ssh://root@yavin/system"

[repositories.vault]
path = "/srv/newhope"
on_host = "yavin"
places = { site = "north" }

[levels.gold]
rpo = "1h"
rto = "15m"
method = "hot"
copies = 2
vms = ["web*", "db-*"]

[levels.silver]
rpo = "1d12h"
rto = "4h"
method = "cold"
default = true
"""


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        read_text(text, FILE)
    return caught.value.problems


def only_problem_of(text: str) -> Problem:
    problems = problems_of(text)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def host(rest: str) -> str:
    return f'[hosts.alderaan]\nuri = "qemu:///system"\n{rest}'


def level(rest: str) -> str:
    return f'[hosts.alderaan]\nuri = "qemu:///system"\n[levels.gold]\n{rest}'


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


def test_levels_keep_the_order_of_the_file() -> None:
    text = host("")
    for name in ("z", "a", "m"):
        text += f'\n[levels.{name}]\nrpo = "1h"\nrto = "1h"\nvms = ["{name}*"]'

    assert [level.name for level in read_text(text, FILE).levels] == ["z", "a", "m"]


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


@pytest.mark.parametrize("name", ['"my host"', '""', '"a/b"', '"-x"', '".hidden"', '"web@latest"', '"höst"', '" "'])
def test_a_name_that_would_be_ambiguous_elsewhere_is_refused(name: str) -> None:
    problems = problems_of(f'[hosts.{name}]\nuri = "qemu:///system"\n')

    assert [problem.line for problem in problems] == [1]
    assert "name" in problems[0].what


@pytest.mark.parametrize("name", ["alderaan", "node-1", "rack_2", "7", '"kvm01.example.org"', "_x"])
def test_a_plain_name_is_taken(name: str) -> None:
    settings = read_text(f'[hosts.{name}]\nuri = "qemu:///system"\n', FILE)

    assert settings.hosts[0].name == name.strip('"')


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///session?socket=/run/user/1000/libvirt/libvirt-sock",
        "qemu+unix:///system",
        "qemu+ssh://root@kvm01/system",
        "qemu+ssh://root@kvm01:2222/system?keyfile=/root/.ssh/id&no_tty=1",
        "qemu+tls://kvm01/system",
        "qemu+tcp://[::1]:16509/system",
        "qemu+libssh2://kvm01/session",
        "test:///default",
    ],
)
def test_a_uri_that_libvirt_would_take_is_taken(uri: str) -> None:
    assert read_text(f'[hosts.a]\nuri = "{uri}"\n', FILE).hosts[0].uri == uri


@pytest.mark.parametrize(
    ("uri", "what", "fix"),
    [
        ("quemu:///system", '"quemu"', '"qemu"'),
        ("http://kvm01/", '"http"', "qemu:///system"),
        ("xen:///system", '"xen"', "qemu:///system"),
        ("kvm01", "not a libvirt URI", "qemu+ssh://"),
        ("/run/libvirt-sock", "not a libvirt URI", "qemu:///system"),
        ("qemu://system", "name of a machine", "qemu:///system"),
        ("qemu:///", "which daemon", "/system"),
        ("qemu+ssh://kvm01", "which daemon", "/system"),
        ("qemu:///sytem", '"/sytem"', '"/system"'),
        ("qemu+ssh:///system", "name of a machine", "qemu+ssh://root@HOST/system"),
        ("qemu+shh://kvm01/system", '"shh"', "qemu+ssh"),
        ("qemu+://kvm01/system", "transport", "qemu"),
        ("qemu+unix://kvm01/system", "stays on this machine", "qemu+ssh://kvm01/system"),
        ("qemu+unix:///session?socket=", "missing", "?socket=/"),
        ("qemu+unix:///session?socket=run/x", "absolute", "?socket=/"),
        ("qemu+unix:///session?soket=/run/x", '"soket"', '"socket="'),
        ("qemu+ssh://kvm01:notaport/system", "garbled", "qemu"),
        ("qemu:///system ", "space", "Remove"),
    ],
)
def test_a_uri_that_would_lead_nowhere_is_told_before_anything_connects(uri: str, what: str, fix: str) -> None:
    problem = only_problem_of(f'[hosts.a]\nuri = "{uri}"\n')

    assert problem.key == "hosts.a.uri"
    assert what in problem.what
    assert fix in problem.fix


def test_a_password_in_a_uri_is_refused_and_not_repeated() -> None:
    problem = only_problem_of('[hosts.a]\nuri = "qemu+ssh://root:hunter2@kvm01/system"\n')

    assert "password" in problem.what
    assert "hunter2" not in str(problem)


def test_a_host_without_uri_is_told_with_its_section() -> None:
    problem = only_problem_of("[hosts.alderaan]\npool = 'x'\n")

    assert (problem.key, problem.line) == ("hosts.alderaan", 1)
    assert '"uri"' in problem.what


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu:///system", "qemu:///system/"),
        ("qemu+ssh://root@kvm01/system", "qemu+ssh://root@KVM01/system"),
        ("qemu+ssh://h/system?no_tty=1&keyfile=/k", "qemu+ssh://h/system?keyfile=/k&no_tty=1"),
    ],
)
def test_two_hosts_with_one_uri_are_one_machine(first: str, second: str) -> None:
    problem = only_problem_of(f'[hosts.a]\nuri = "{first}"\n[hosts.b]\nuri = "{second}"\n')

    assert (problem.key, problem.line) == ("hosts.b.uri", 4)
    assert '"a" and "b"' in problem.what


def test_two_sockets_are_two_hosts() -> None:
    uri = "qemu+unix:///session?socket="

    settings = read_text(f'[hosts.a]\nuri = "{uri}/run/a"\n[hosts.b]\nuri = "{uri}/run/b"\n', FILE)

    assert len(settings.hosts) == 2


@pytest.mark.parametrize(("first", "second"), [("/srv/x", "/srv/x"), ("/srv/x", "/srv/y/../x"), ("/srv/x", "/srv/x/")])
def test_two_repositories_in_one_folder_are_one_copy(first: str, second: str) -> None:
    problem = only_problem_of(f'[repositories.a]\npath = "{first}"\n[repositories.b]\npath = "{second}"\n')

    assert problem.key == "repositories.b.path"
    assert "one copy" in problem.what


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


@pytest.mark.parametrize("value", ['"-1h"', '"0m"', '"soon"', '"15"', "15", '"1.5h"', '"999999999w"'])
def test_a_duration_that_cannot_be_is_refused_with_an_example(value: str) -> None:
    problem = only_problem_of(level(f'rpo = {value}\nrto = "1h"\nvms = ["a"]'))

    assert (problem.key, problem.line) == ("levels.gold.rpo", 4)
    assert '"' in problem.fix


@pytest.mark.parametrize("key", ["rpo", "rto"])
def test_a_level_must_say_both_what_it_may_lose_and_how_long_it_may_be_down(key: str) -> None:
    other = {"rpo": "rto", "rto": "rpo"}[key]

    problem = only_problem_of(level(f'{other} = "1h"\nvms = ["a"]'))

    assert problem.key == "levels.gold"
    assert f'"{key}" is missing' in problem.what


def test_an_unknown_method_is_answered_with_those_that_exist() -> None:
    problem = only_problem_of(level('rpo = "1h"\nrto = "1h"\nvms = ["a"]\nmethod = "warm"'))

    assert problem.key == "levels.gold.method"
    assert '"hot", "cold", "paused" or "memory"' in problem.fix


@pytest.mark.parametrize("copies", ["0", "-1"])
def test_no_copy_at_all_is_no_level(copies: str) -> None:
    assert "at least 1" in only_problem_of(level(f'rpo = "1h"\nrto = "1h"\nvms = ["a"]\ncopies = {copies}')).what


def test_there_is_one_default_level_at_most() -> None:
    text = level('rpo = "1h"\nrto = "1h"\ndefault = true')
    text += '\n[levels.silver]\nrpo = "1h"\nrto = "1h"\ndefault = true'

    problem = only_problem_of(text)

    assert problem.key == "levels.silver.default"
    assert '"gold"' in problem.what


@pytest.mark.parametrize("pattern", ["a/b", "web[12", "web*[", " web", "web ", "a\\tb"])
def test_a_pattern_that_nothing_can_match_is_refused(pattern: str) -> None:
    problem = only_problem_of(level(f'rpo = "1h"\nrto = "1h"\nvms = ["ok", "{pattern}"]'))

    assert problem.key == "levels.gold.vms[1]"


@pytest.mark.parametrize("pattern", ["web*", "web-[12]", "web-[!a-c]*", "[[]x", "[]]", "?", "*", "Web 1", "größe"])
def test_a_pattern_that_something_can_match_is_taken(pattern: str) -> None:
    settings = read_text(level(f'rpo = "1h"\nrto = "1h"\nvms = ["{pattern}"]'), FILE)

    assert settings.levels[0].vms == (pattern,)


@pytest.mark.parametrize(
    ("earlier", "later", "shadowed"),
    [
        ("*", "web", True),
        ("*", "*", True),
        ("web*", "web-1", True),
        ("web*", "web-?*", True),
        ("web*", "web*", True),
        ("*-prod", "db-*-prod", True),
        ("web-[12]", "web-[12]", True),
        ("web-1", "web*", False),
        ("web*", "w*", False),
        ("web-?", "web-*", False),
        ("Web*", "web-1", False),
    ],
)
def test_a_pattern_behind_a_wider_one_of_an_earlier_level_never_applies(
    earlier: str, later: str, shadowed: bool
) -> None:
    text = level(f'rpo = "1h"\nrto = "1h"\nvms = ["{earlier}"]')
    text += f'\n[levels.silver]\nrpo = "1h"\nrto = "1h"\nvms = [\n  "x-only",\n  "{later}",\n]'
    text = text.replace('  "x-only",\n', "") if earlier == "*" else text

    if shadowed:
        problem = only_problem_of(text)
        assert problem.key.startswith("levels.silver.vms")
        assert problem.line == (12 if "x-only" in text else 11)
        assert "never applies" in problem.what
    else:
        assert len(read_text(text, FILE).levels) == 2


def test_a_level_for_no_vm_is_a_mistake() -> None:
    assert "for no VM" in only_problem_of(level('rpo = "1h"\nrto = "1h"')).what


def test_levels_and_exclusions_have_rules_by_name_host_and_tag() -> None:
    text = host("backups_at_once = 3\n[exclude]\nvms = ['tmp-*']\nhosts = ['alder*']\ntags = ['nobackup']")
    text += '\n[levels.gold]\nrpo = "1h"\nrto = "1h"\nhosts = ["alderaan"]\ntags = ["gold", "db"]\n'

    settings = read_text(text, FILE)

    assert settings.exclude == Rules(("tmp-*",), ("alder*",), ("nobackup",))
    assert settings.levels[0].rules == Rules((), ("alderaan",), ("gold", "db"))
    assert settings.hosts[0].backups_at_once == 3


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ("[exclude]\nhosts = ['alderan']", "exclude.hosts", 'Did you mean "alderaan"?'),
        ("[exclude]\nhost = ['alderaan']", "exclude.host", 'Did you mean "hosts"?'),
        ("[exclude]\ntags = ['a b']", "exclude.tags", "each tag by itself"),
        ("[exclude]\n", "exclude", "Or remove it"),
        ("[exclud]\nvms = ['a']", "exclud", 'Did you mean "exclude"?'),
        ("[levels.a]\nrpo = '1h'\nrto = '1h'\nhosts = ['alderan']", "levels.a.hosts", 'Did you mean "alderaan"?'),
        ("[levels.a]\nrpo = '1h'\nrto = '1h'\nhosts = ['zz*']", "levels.a.hosts", "The hosts are alderaan"),
        (
            "[levels.a]\nrpo = '1h'\nrto = '1h'\ntags = ['x']\n[levels.b]\nrpo = '1h'\nrto = '1h'\ntags = ['x']",
            "levels.b.tags",
            "above [levels.a]",
        ),
    ],
)
def test_a_rule_that_cannot_apply_is_a_mistake(text: str, key: str, fix: str) -> None:
    problem = only_problem_of(host(text))

    assert problem.key.startswith(key)
    assert fix in problem.fix


def test_a_repository_on_a_host_that_does_not_exist_is_answered_with_the_nearest() -> None:
    problem = only_problem_of(host('[repositories.v]\npath = "/v"\non_host = "alderan"'))

    assert (problem.key, problem.line) == ("repositories.v.on_host", 5)
    assert '"alderaan"' in problem.fix


def test_a_host_with_a_wrong_uri_still_counts_as_a_host_that_a_repository_is_on() -> None:
    text = '[hosts.a]\nuri = "zzz"\n[repositories.v]\npath = "/v"\non_host = "a"\n'

    assert only_problem_of(text).key == "hosts.a.uri"


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


LEVEL = 'rpo = "1h"\nrto = "1h"\nvms = ["a"]\n'


def test_a_level_says_which_recovery_points_are_kept() -> None:
    text = level(LEVEL + "keep = { last = 7, daily = 14, weekly = 8, monthly = 12, yearly = 3 }")

    assert read_text(text, FILE).levels[0].keep == Keep(last=7, daily=14, weekly=8, monthly=12, yearly=3)


def test_keep_can_be_a_section_of_its_own() -> None:
    assert read_text(level(LEVEL + "[levels.gold.keep]\nhourly = 24"), FILE).levels[0].keep == Keep(hourly=24)


def test_a_level_without_keep_keeps_every_point() -> None:
    assert read_text(level(LEVEL), FILE).levels[0].keep is None


@pytest.mark.parametrize(
    ("keep", "key", "said"),
    [
        ("keep = { lats = 7 }", "levels.gold.keep.lats", '"last"'),
        ("keep = { last = 0 }", "levels.gold.keep.last", "at least 1"),
        ("keep = { last = -3 }", "levels.gold.keep.last", "at least 1"),
        ("keep = { daily = '14' }", "levels.gold.keep.daily", "whole number"),
        ("keep = { daily = true }", "levels.gold.keep.daily", "whole number"),
        ("keep = {}", "levels.gold.keep", "keeps nothing"),
        ("keep = 7", "levels.gold.keep", "a table"),
        ("[levels.gold.keep]\n\nyearly = 1.5", "levels.gold.keep.yearly", "whole number"),
    ],
)
def test_a_mistake_in_keep_is_named_with_its_line(keep: str, key: str, said: str) -> None:
    text = level(LEVEL + keep)
    problem = only_problem_of(text)

    assert problem.key == key
    # After the host's two lines, the header and the three lines of the level; or where the section's line is.
    assert problem.line == (9 if "\n" in keep else 7)
    assert said in f"{problem.what} {problem.fix}"
