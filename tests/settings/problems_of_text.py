"""What is wrong with a settings file whose text is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import Problem, SettingsError, read_text

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
