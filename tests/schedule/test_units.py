"""What is in the units, held against systemd's own check of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.schedule import Choice, Unit, Unsuitable, cron_lines, every_for, plan_units, prove_every_for
from engine.schedule.units import DAY_S, HOUR_S, MINUTE_S, SUITABLE_S
from tests.builders import make_level, make_settings

# systemd-analyze wants commands that exist.
COMMAND = ("/bin/true", "--config", "/etc/new hope/100%$HOME's\\.toml")
SETTINGS = make_settings()


def choice(every_s: int = 15 * MINUTE_S, **changes: object) -> Choice:
    return Choice(COMMAND, every_s, **changes)  # pyright: ignore[reportArgumentType]


def text_of(units: tuple[Unit, ...], name: str) -> str:
    return next(unit.text for unit in units if unit.name == name)


@pytest.mark.parametrize("user", [False, True], ids=["the machine's", "a user's"])
def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path, user: bool) -> None:
    units = plan_units(
        SETTINGS,
        choice(
            user=user,
            verify=True,
            prune=True,
            on_failure="tell@%n.service",
            credentials=(("vault", Path("/etc/50%/v")),),
        ),
    )
    for unit in units:
        (tmp_path / unit.name).write_text(unit.text)
    (tmp_path / "tell@.service").write_text("[Service]\nExecStart=/bin/true\n")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *([] if not user else ["--user"])]
        + [str(tmp_path / unit.name) for unit in units],
        capture_output=True,
        text=True,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )

    assert len(units) == 6
    about_them = [line for line in done.stderr.splitlines() if "newhope" in line or str(tmp_path) in line]
    assert (done.returncode, about_them) == (0, [])


def test_systemd_does_find_a_word_that_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "newhope-backup.service"
    file.write_text(text_of(plan_units(SETTINGS, choice()), file.name).replace("Type=oneshot", "Type=oneshoot"))

    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)

    assert "oneshoot" in done.stderr


@pytest.mark.parametrize("every_s", SUITABLE_S)
def test_every_interval_is_one_that_a_calendar_can_say(every_s: int) -> None:
    timer = text_of(plan_units(SETTINGS, choice(every_s)), "newhope-backup.timer")
    (calendar,) = [line.partition("=")[2] for line in timer.splitlines() if line.startswith("OnCalendar=")]

    said = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", "--base-time=2026-03-01 00:00:00", calendar],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    ).stdout
    times = [line.split()[-2] for line in said.splitlines() if "Next elapse" in line or "Iter. #2" in line]
    first, second = (
        sum(int(part) * 60**place for part, place in zip(t.split(":"), (2, 1, 0), strict=True)) for t in times
    )

    assert (second - first) % DAY_S == every_s % DAY_S
    assert "Persistent=true" in timer


def test_a_job_outlives_the_look_that_started_it_and_no_sandbox_hides_sockets_and_scratch_files() -> None:
    service = text_of(plan_units(SETTINGS, choice()), "newhope-backup.service")

    assert "backup --due --yes --detach" in service
    assert "KillMode=process" in service
    assert not {"PrivateTmp", "PrivateDevices", "ProtectHome"} & {
        line.partition("=")[0] for line in service.splitlines()
    }


def test_each_repository_is_verified_and_pruned() -> None:
    units = plan_units(SETTINGS, choice(verify=True, prune=True))

    for kind, words in (("verify", "repo verify"), ("prune", "repo prune --yes")):
        service = text_of(units, f"newhope-{kind}.service")
        starts = [line for line in service.splitlines() if line.startswith("ExecStart=")]
        assert [line.endswith(f"{words} {kept.name}") for line, kept in zip(starts, SETTINGS.repositories, strict=True)]


@pytest.mark.parametrize(
    ("rpo", "every_s"), [("15m", MINUTE_S), ("1h", 5 * MINUTE_S), ("2h", 15 * MINUTE_S), ("1d", 15 * MINUTE_S)]
)
def test_it_is_looked_often_enough_for_the_shortest_rpo(rpo: str, every_s: int) -> None:
    assert every_for(make_settings(levels=[make_level("gold", rpo=rpo), make_level("rest", rpo="7d")])) == every_s


@pytest.mark.parametrize(
    "wrong",
    [
        choice(7 * MINUTE_S),
        choice(45),
        choice(credentials=(("attic", Path("/etc/x")),)),
        choice(credentials=(("vault", Path("x")),)),
        choice(on_failure="mail\nExecStart=/bin/evil.service"),
    ],
    ids=["every 7 minutes", "every 45 seconds", "no such repository", "a path from nowhere", "no unit"],
)
def test_what_cannot_be_had_is_refused(wrong: Choice) -> None:
    with pytest.raises(Unsuitable):
        plan_units(SETTINGS, wrong)


def test_cron_does_the_same() -> None:
    plain = Choice(("newhope",), 6 * HOUR_S, verify=True, prune=True)

    assert cron_lines(SETTINGS, plain) == (
        "0 */6 * * * newhope backup --due --yes --detach",
        "30 3 * * * newhope repo prune --yes vault",
        "30 5 * * 0 newhope repo verify vault",
    )
    assert cron_lines(SETTINGS, choice())[0].startswith("*/15 * * * * /bin/true --config '/etc/new hope/100\\%")
    assert cron_lines(SETTINGS, Choice(("newhope",), DAY_S))[0].startswith("0 0 * * * ")


def test_proofs_have_a_timer_only_where_a_level_asks_for_them() -> None:
    asking = make_settings(levels=[make_level("gold", prove_every_s=7 * DAY_S), make_level("rest", default=True)])

    units = plan_units(asking, choice())
    service = text_of(units, "newhope-prove.service")

    assert len(units) == 4 and len(plan_units(SETTINGS, choice())) == 2
    assert "prove --due --yes --detach" in service and "KillMode=process" in service
    assert "OnCalendar=0/1:00" in text_of(units, "newhope-prove.timer")
    assert cron_lines(asking, Choice(("newhope",), DAY_S))[1] == "0 * * * * newhope prove --due --yes --detach"


@pytest.mark.parametrize(("asked_s", "every_s"), [(4 * MINUTE_S, MINUTE_S), (4 * HOUR_S, 30 * MINUTE_S)])
def test_it_is_looked_often_enough_for_the_shortest_time_between_proofs(asked_s: int, every_s: int) -> None:
    levels = [make_level("gold", prove_every_s=asked_s), make_level("rest", prove_every_s=30 * DAY_S)]

    assert prove_every_for(make_settings(levels=levels)) == every_s
    assert prove_every_for(SETTINGS) is None
