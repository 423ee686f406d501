"""The files that make newhope work by itself (systemd.service, systemd.timer, systemd.exec). Pure.

Hardening is limited to what cannot stand in the way of a backup. Not used, and why: `PrivateTmp` and `PrivateDevices`
(QEMU has to find the sockets and scratch files that newhope makes, and newhope the block devices of QEMU),
`ProtectHome` (the keys of ssh), `ProtectSystem=strict` (repositories are where the settings say),
`MemoryDenyWriteExecute` (libffi). A user's own manager cannot do most of it, so that a user's units have none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.settings import Settings, format_duration

MARK = "# Written by `newhope schedule install`, which overwrites it; `newhope schedule remove` takes it away."
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
SUITABLE_S = (
    *(minutes * MINUTE_S for minutes in (1, 2, 5, 10, 15, 20, 30)),
    *(hours * HOUR_S for hours in (1, 2, 3, 4, 6, 8, 12, 24)),
)
"""Divisors of an hour or a day: what a calendar can say, and only a calendar's timer can be persistent."""
USUAL_S = 15 * MINUTE_S
LOOKS_IN_RPO = 8
"""A VM is due when at most three quarters of its RPO are over: so at least one look falls into the rest."""

_HARDENED = """\
NoNewPrivileges=yes
ProtectSystem=full
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
"""


class Unsuitable(NewhopeError):
    """The schedule that was asked for cannot be had."""

    exit_code = ExitCode.USAGE


class UnitKind(StrEnum):
    """What a service does."""

    BACKUP = "backup"
    VERIFY = "verify"
    PRUNE = "prune"
    PROVE = "prove"


class Unit(Struct, frozen=True):
    """One file."""

    name: str
    text: str


class Choice(Struct, frozen=True):
    """What is to be scheduled, and how."""

    command: tuple[str, ...]
    """What starts newhope with its settings."""
    every_s: int
    """Between two looks at what is due."""
    verify: bool = False
    prune: bool = False
    user: bool = False
    """For a user's own systemd instead of the machine's."""
    on_failure: str | None = None
    """The unit that is started when one of the services fails."""
    credentials: tuple[tuple[str, Path], ...] = ()
    """Names of repositories, each with the file that holds its passphrase."""


def every_for(settings: Settings) -> int:
    """Return how often to look at what is due, in seconds, so that no level's RPO is missed for want of a look."""
    shortest_s = min((level.rpo_s for level in settings.levels), default=DAY_S)
    suitable = [every_s for every_s in SUITABLE_S if every_s <= min(USUAL_S, shortest_s / LOOKS_IN_RPO)]
    return suitable[-1] if suitable else SUITABLE_S[0]


def prove_every_for(settings: Settings) -> int | None:
    """Return how often to look at which points are to be proven, in seconds; None if no level asks for proofs."""
    asked = [level.prove_every_s for level in settings.levels if level.prove_every_s is not None]
    if not asked:
        return None
    return max((each for each in SUITABLE_S if each <= min(HOUR_S, min(asked) / LOOKS_IN_RPO)), default=SUITABLE_S[0])


def plan_units(settings: Settings, choice: Choice) -> tuple[Unit, ...]:
    """Return the files of a schedule, services before their timers. Raises `Unsuitable`."""
    calendar = _calendar(choice.every_s)
    if choice.on_failure is not None and not re.fullmatch(r"[\w:.@%\\-]+\.(service|target)", choice.on_failure):
        raise Unsuitable(
            f"{choice.on_failure!r} is no unit that could be started.", next_step="write --on-failure NAME.service."
        )
    repositories = [kept.name for kept in settings.repositories]
    for name, file in choice.credentials:
        if name not in repositories:
            raise Unsuitable(
                f"There is no repository {name} for a credential.",
                next_step=f"name one of these: {', '.join(repositories)}.",
            )
        if not file.is_absolute():
            raise Unsuitable(
                f"The credential of {name} is no absolute path: {file}.", next_step=f"write --credential {name}=/FILE."
            )
    # Spread over a quarter of the time, always the same for one machine: several machines do not come all at once.
    found = [*_pair(choice, UnitKind.BACKUP, "back up the VMs that are due", calendar, choice.every_s // 4)]
    prove_every_s = prove_every_for(settings)
    if prove_every_s is not None:
        calendar = _calendar(prove_every_s)
        found += _pair(choice, UnitKind.PROVE, "prove the recovery points that are due", calendar, prove_every_s // 4)
    if choice.prune:
        found += _pair(choice, UnitKind.PRUNE, "drop the recovery points that no rule keeps", "daily", HOUR_S, settings)
    if choice.verify:
        found += _pair(choice, UnitKind.VERIFY, "verify the repositories", "weekly", 4 * HOUR_S, settings)
    return tuple(found)


def cron_lines(settings: Settings, choice: Choice) -> tuple[str, ...]:
    """Return lines for `crontab -e` that do the same; what cron misses while the machine is off, the next line does."""
    _calendar(choice.every_s)
    lines = [f"{_cron_time(choice.every_s)} {_line(choice, UnitKind.BACKUP, None)}"]
    prove_every_s = prove_every_for(settings)
    if prove_every_s is not None:
        lines.append(f"{_cron_time(prove_every_s)} {_line(choice, UnitKind.PROVE, None)}")
    for kept in settings.repositories:
        lines += [f"30 3 * * * {_line(choice, UnitKind.PRUNE, kept.name)}"] if choice.prune else []
        lines += [f"30 5 * * 0 {_line(choice, UnitKind.VERIFY, kept.name)}"] if choice.verify else []
    return tuple(line.replace("%", r"\%") for line in lines)


def _cron_time(every_s: int) -> str:
    minutes = every_s // MINUTE_S
    if every_s < HOUR_S:
        return f"*/{minutes} * * * *"
    if every_s == HOUR_S:
        return "0 * * * *"
    return "0 0 * * *" if every_s == DAY_S else f"0 */{minutes // 60} * * *"


def _pair(
    choice: Choice, kind: UnitKind, does: str, calendar: str, spread_s: int, each: Settings | None = None
) -> tuple[Unit, Unit]:
    """A service and its timer; with `each`, the service does its work once for each repository there."""
    names: Sequence[str | None] = [None] if each is None else [kept.name for kept in each.repositories]
    unit = ["[Unit]", f"Description=newhope: {does}"]
    if not choice.user:
        unit += ["Wants=network-online.target", "After=network-online.target libvirtd.service virtqemud.service"]
    if choice.on_failure:
        unit.append(f"OnFailure={choice.on_failure}")
    service = ["[Service]", "Type=oneshot"]
    service += [f"ExecStart={_escaped(_line(choice, kind, name))}" for name in names]
    if each is None:
        service += ["# A job outlives the look that started it: a long one must not hold up the next look.", *_OUTLIVED]
    service += [f"LoadCredential={name}:{str(file).replace('%', '%%')}" for name, file in choice.credentials]
    service += ["Nice=10", "IOSchedulingPriority=7", *([] if choice.user else _HARDENED.splitlines())]
    timer = ["[Unit]", f"Description=newhope: when to {does}", "", "[Timer]", f"OnCalendar={calendar}"]
    timer += ["# What was missed while the machine was off is caught up.", "Persistent=true"]
    timer += [f"RandomizedDelaySec={spread_s}", "FixedRandomDelay=true", "", "[Install]", "WantedBy=timers.target"]
    return (
        Unit(f"newhope-{kind}.service", "\n".join([MARK, *unit, "", *service, ""])),
        Unit(f"newhope-{kind}.timer", "\n".join([MARK, *timer, ""])),
    )


_OUTLIVED = ("KillMode=process", "SendSIGKILL=no")


def _line(choice: Choice, kind: UnitKind, repository: str | None) -> str:
    words = {
        UnitKind.BACKUP: ("backup", "--due", "--yes", "--detach"),
        UnitKind.PROVE: ("prove", "--due", "--yes", "--detach"),
        UnitKind.VERIFY: ("repo", "verify"),
        UnitKind.PRUNE: ("repo", "prune", "--yes"),
    }[kind]
    return shlex.join([*choice.command, *words, *([repository] if repository else [])])


def _escaped(text: str) -> str:
    r"""Return a command line whose words are what they are: systemd replaces %, $ and \, even between quotes."""
    return text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")


def _calendar(every_s: int) -> str:
    if every_s not in SUITABLE_S:
        raise Unsuitable(
            f"A timer cannot look every {format_duration(every_s)}: that divides neither an hour nor a day evenly.",
            next_step=f"choose one of these: {', '.join(format_duration(each) for each in SUITABLE_S)}.",
        )
    if every_s < HOUR_S:
        return f"*:0/{every_s // MINUTE_S}"
    return "daily" if every_s == DAY_S else f"0/{every_s // HOUR_S}:00"
