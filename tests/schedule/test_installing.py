"""Units are written, enabled and taken away; foreign ones are not touched; what fails is taken back.

systemd does not run where tests run. `systemctl` itself does, on a folder instead of a machine (`--root`), which
enables and disables as it would; starting timers, which only a running systemd can, is left away by a script before it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.schedule import Choice, Systemd, Unit, install, plan_units, remove, state_of
from engine.schedule.installing import ScheduleFailed
from tests.builders import make_settings

SETTINGS = make_settings()
SCRIPT = """#!/bin/sh
verb=$1; shift
echo "$verb $*" >> {root}/asked
[ ! -e {root}/refuse-$verb ] || {{ echo "it does not want to" >&2; exit 1; }}
[ "$1" != --now ] || shift
case $verb in enable|disable) exec systemctl --root={root} "$verb" "$@" ;; esac
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    script = tmp_path / "systemctl"
    script.write_text(SCRIPT.format(root=tmp_path))
    script.chmod(0o755)
    return Systemd(tmp_path / "etc/systemd/system", (str(script),))


def units(**changes: bool) -> tuple[Unit, ...]:
    return plan_units(SETTINGS, Choice(("/usr/bin/newhope",), 900, **changes))


def names(systemd: Systemd) -> list[str]:
    return sorted(str(path.relative_to(systemd.folder)) for path in systemd.folder.rglob("*") if not path.is_dir())


BACKUP = ["newhope-backup.service", "newhope-backup.timer", "timers.target.wants/newhope-backup.timer"]


def test_installed_changed_and_removed(systemd: Systemd) -> None:
    install(systemd, units(verify=True, prune=True))

    assert {each.kind.value for each in state_of(systemd)} == {"backup", "verify", "prune"}
    install(systemd, units())
    assert names(systemd) == BACKUP

    assert remove(systemd) == ("newhope-backup.timer", "newhope-backup.service")
    assert names(systemd) == []
    assert remove(systemd) == ()


def test_what_somebody_else_wrote_under_that_name_is_not_touched(systemd: Systemd) -> None:
    systemd.folder.mkdir(parents=True)
    (systemd.folder / "newhope-backup.timer").write_text("[Timer]\nOnCalendar=daily\n")

    with pytest.raises(Conflict, match=r"newhope-backup\.timer is not from"):
        install(systemd, units())

    assert names(systemd) == ["newhope-backup.timer"]
    assert remove(systemd) == ()


@pytest.mark.parametrize("verb", ["daemon-reload", "enable"])
def test_an_installation_that_fails_leaves_all_as_it_was(systemd: Systemd, tmp_path: Path, verb: str) -> None:
    (tmp_path / f"refuse-{verb}").touch()

    with pytest.raises(ScheduleFailed, match="it does not want to"):
        install(systemd, units())

    assert names(systemd) == []


def test_a_change_that_fails_leaves_the_old_schedule(systemd: Systemd, tmp_path: Path) -> None:
    install(systemd, units())
    before = (systemd.folder / "newhope-backup.timer").read_bytes()
    (tmp_path / "refuse-enable").touch()

    with pytest.raises(ScheduleFailed):
        install(systemd, plan_units(SETTINGS, Choice(("/usr/bin/newhope",), 3600, verify=True)))

    assert names(systemd) == BACKUP
    assert (systemd.folder / "newhope-backup.timer").read_bytes() == before


def test_a_change_takes_effect_at_once_though_the_timer_runs(systemd: Systemd, tmp_path: Path) -> None:
    install(systemd, units())

    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["daemon-reload ", "enable --now newhope-backup.timer", "restart newhope-backup.timer"]
