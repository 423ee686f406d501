"""Levels in a settings file: what they ask for, whom they are for, and what they keep."""

from __future__ import annotations

import pytest

from engine.settings import Keep, Rules, read_text
from tests.settings.problems_of_text import FILE, host, level, only_problem_of


def test_levels_keep_the_order_of_the_file() -> None:
    text = host("")
    for name in ("z", "a", "m"):
        text += f'\n[levels.{name}]\nrpo = "1h"\nrto = "1h"\nvms = ["{name}*"]'

    assert [level.name for level in read_text(text, FILE).levels] == ["z", "a", "m"]


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
