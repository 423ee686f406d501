"""Which level a VM has."""

from __future__ import annotations

import pytest

from engine.hosts.model import Vm
from engine.requirements import excluded_by, level_for, level_of
from engine.settings import Rules
from tests.builders import make_level, make_settings, make_vm

SETTINGS = make_settings(
    levels=[
        make_level("gold", vms=("db-*", "dc-[12]")),
        make_level("silver", default=True),
        make_level("bronze", vms=("build-*", "db-test", "?")),
    ]
)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("db-1", "gold"),
        ("db-test", "gold"),
        ("dc-1", "gold"),
        ("dc-3", "silver"),
        ("build-7", "bronze"),
        ("x", "bronze"),
        ("web", "silver"),
        ("DB-1", "silver"),
        ("my-db-1", "silver"),
        ("db", "silver"),
    ],
)
def test_the_first_level_that_matches_wins_and_the_default_comes_last(name: str, level: str) -> None:
    found = level_for(SETTINGS, name)

    assert found is not None
    assert found.name == level
    assert level_of(SETTINGS, make_vm(name)) == found


def test_without_a_default_a_vm_may_have_no_level() -> None:
    settings = make_settings(levels=[make_level("gold", vms=("db-*",))])

    assert level_of(settings, make_vm("web")) is None


def test_without_levels_no_vm_has_one() -> None:
    assert level_of(make_settings(levels=[]), make_vm("web")) is None


def test_the_default_level_may_have_patterns_of_its_own() -> None:
    settings = make_settings(
        levels=[make_level("gold", vms=("web",), default=True), make_level("silver", vms=("web*",))]
    )

    assert level_for(settings, "web-2") is settings.levels[1]
    assert level_for(settings, "other") is settings.levels[0]


@pytest.mark.parametrize(
    ("name", "host", "tags", "level"),
    [
        ("web", "alderaan", (), "silver"),
        ("web", "yavin", (), "edge"),
        ("web", "alderaan", ("database", "gold"), "gold"),
        ("web", "yavin", ("gold",), "gold"),
        ("web", "alderaan", ("golden",), "silver"),
        ("db-1", "yavin", (), "gold"),
    ],
)
def test_a_name_a_host_or_a_tag_each_suffice(name: str, host: str, tags: tuple[str, ...], level: str) -> None:
    settings = make_settings(
        levels=[
            make_level("gold", vms=("db-*",), tags=("gold",)),
            make_level("edge", hosts=("yav*",)),
            make_level("silver", default=True),
        ]
    )

    found = level_of(settings, make_vm(name, host=host, tags=tags))

    assert found is not None
    assert found.name == level


@pytest.mark.parametrize(
    ("vm", "rule"),
    [
        (make_vm("web"), None),
        (make_vm("tmp-1"), 'vms = "tmp-*"'),
        (make_vm("web", host="yavin"), 'hosts = "yavin"'),
        (make_vm("web", tags=("a", "nobackup")), 'tags = "nobackup"'),
    ],
)
def test_an_excluded_vm_is_told_the_rule_in_the_words_of_the_settings(vm: Vm, rule: str | None) -> None:
    settings = make_settings(exclude=Rules(vms=("tmp-*",), hosts=("yavin",), tags=("nobackup",)))

    assert excluded_by(settings, vm) == rule
