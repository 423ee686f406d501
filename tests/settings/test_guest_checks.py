"""`[[levels.NAME.checks]]` and `prove_every`: read, written back the same, and every mistake told with its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import CommandCheck, FileCheck, Level, PortCheck, SettingsError, read_text, to_text

BASE = '[hosts.alderaan]\nuri = "qemu:///system"\n[levels.gold]\nrpo = "4h"\nrto = "1h"\ndefault = true\n'
WHOLE = """
prove_every = "7d"

[[levels.gold.checks]]
command = "pg_isready -q"
time_limit = "2m"

[[levels.gold.checks]]
name = "no failed units"
command = ["systemctl", "is-system-running"]

[[levels.gold.checks]]
port = 443

[[levels.gold.checks]]
name = "dump"
file = "/var/backups/db.sql"
min_size = "1MiB"
max_age = "1d"
"""


def level_of(text: str) -> Level:
    return read_text(BASE + text, Path("/etc/newhope.toml")).levels[0]


def test_checks_are_read_and_written_back_the_same():
    settings = read_text(BASE + WHOLE, Path("/etc/newhope.toml"))

    level = settings.levels[0]
    assert level.prove_every_s == 7 * 86400
    assert level.checks == (
        CommandCheck("pg_isready -q", line="pg_isready -q", time_limit_s=120),
        CommandCheck("no failed units", ("systemctl", "is-system-running")),
        PortCheck("port 443", 443),
        FileCheck("dump", "/var/backups/db.sql", min_size_bytes=1 << 20, max_age_s=86400),
    )
    assert read_text(to_text(settings), settings.file) == settings


def test_nothing_is_proven_by_itself_unless_a_level_asks_for_it():
    level = level_of("")

    assert (level.prove_every_s, level.checks) == (None, ())


@pytest.mark.parametrize(
    ("text", "key", "what", "fix"),
    [
        ("prove_every = 7", "levels.gold.prove_every", "without a unit", '"7d"'),
        ("checks = [5]", "levels.gold.checks[0]", "not a table", "[[levels.NAME.checks]]"),
        ("[[levels.gold.checks]]\nname = 'x'", "levels.gold.checks[0]", "checks nothing", "command, port and file"),
        ("[[levels.gold.checks]]\nport = 1\nfile = '/x'", "levels.gold.checks[0]", "port and file at once", "one of"),
        ("[[levels.gold.checks]]\nport = 65536", "levels.gold.checks[0].port", "65535", "443"),
        ("[[levels.gold.checks]]\nport = '80'", "levels.gold.checks[0].port", "a text", "without quotes"),
        ("[[levels.gold.checks]]\nport = 80\nmin_size = '1MiB'", "levels.gold.checks[0].min_size", "no setting", ""),
        ("[[levels.gold.checks]]\nfile = 'etc'", "levels.gold.checks[0].file", "absolute", '"/etc"'),
        ("[[levels.gold.checks]]\nfile = '/e'\nmax_age = '5'", "levels.gold.checks[0].max_age", "no unit", "hours"),
        ("[[levels.gold.checks]]\ncommand = []", "levels.gold.checks[0].command", "empty", "pg_isready"),
        ("[[levels.gold.checks]]\ncommand = ' '", "levels.gold.checks[0].command", "empty", "command"),
        ("[[levels.gold.checks]]\nport = 1\nname = ' a'", "levels.gold.checks[0].name", "no space", "short"),
        ("[[levels.gold.checks]]\nport = 1\n[[levels.gold.checks]]\nport = 1", "levels.gold.checks[1].name", "Two", ""),
        ("[[levels.gold.checks]]\nport = 1\ntime_limit = 5", "levels.gold.checks[0].time_limit", "unit", '"1m"'),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_to_write_instead(text: str, key: str, what: str, fix: str):
    with pytest.raises(SettingsError) as raised:
        level_of(text)

    (problem,) = raised.value.problems
    assert problem.key == key
    assert what in problem.what
    assert fix in problem.fix
