"""Write the units, have systemd read them, start their timers; take them away again; say how they stand.

What another program or an operator wrote under one of these names is recognised by the missing mark and never touched.
An installation that fails leaves every file as it was before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from engine.errors import Conflict, MissingPackage, NewhopeError
from engine.schedule.units import MARK, Unit, UnitKind

RUNNING = Path("/run/systemd/system")
"""There while systemd is the first process of the machine (sd_booted(3))."""
SYSTEM_FOLDER = Path("/etc/systemd/system")
_TIMEOUT_S = 60


class NoSystemd(MissingPackage):
    """There is no systemd that could be asked."""


class ScheduleFailed(NewhopeError):
    """systemd, or the file system, refused."""


class Systemd(Struct, frozen=True):
    """The machine's systemd or a user's own: where its units are, and how it is asked."""

    folder: Path
    command: tuple[str, ...]

    @classmethod
    def of(cls, *, user: bool) -> Systemd:
        """The one that is meant; raises `NoSystemd` if it does not run."""
        if not RUNNING.is_dir() or shutil.which("systemctl") is None:
            raise NoSystemd(
                "systemd does not run on this machine.",
                next_step="let cron do it: `newhope schedule install --dry-run` shows the lines for `crontab -e`.",
            )
        if user:
            home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
            return cls(Path(home) / "systemd/user", ("systemctl", "--user"))
        if os.geteuid() != 0:
            raise ScheduleFailed(
                "Only root may give units to the machine's systemd.",
                next_step="start it as root, or add --user for units of your own.",
            )
        return cls(SYSTEM_FOLDER, ("systemctl",))


class Installed(Struct, frozen=True):
    """One timer as it stands."""

    kind: UnitKind
    file: Path
    active: str
    """In systemd's words: active, inactive, failed; unknown if it could not be asked."""
    next_run: str
    last_run: str
    last_result: str
    """Of the service: success, exit-code, ..."""


def install(systemd: Systemd, units: Sequence[Unit]) -> None:
    """Write these units, take away those of an earlier schedule that are not among them, start the timers."""
    names = {unit.name for unit in units}
    unwanted = [file for file in _ours(systemd) if file.name not in names]
    wanted = {systemd.folder / unit.name: unit.text.encode() for unit in units}
    for file in wanted:
        _refuse_foreign(file)
    before = {file: file.read_bytes() if file.exists() else None for file in (*wanted, *unwanted)}
    try:
        _stop(systemd, unwanted)
        for file in unwanted:
            file.unlink()
        for file, content in wanted.items():
            _write(file, content)
        _ask(systemd, "daemon-reload")
        _start(systemd, list(wanted))
    except (OSError, ScheduleFailed) as error:
        _put_back(systemd, before)
        reason = error.what if isinstance(error, ScheduleFailed) else f"{error.filename}: {error.strerror}."
        raise ScheduleFailed(
            f"The schedule could not be installed. {reason}",
            untouched="The units are as they were.",
            next_step="see what is wrong with `newhope schedule install --dry-run` and `journalctl -xe`.",
        ) from error


def remove(systemd: Systemd) -> tuple[str, ...]:
    """Stop the timers and take all units away; answers their names. Jobs that run go on."""
    files = _ours(systemd)
    if files:
        _stop(systemd, files)
        for file in files:
            file.unlink(missing_ok=True)
        _ask(systemd, "daemon-reload")
    return tuple(file.name for file in files)


def state_of(systemd: Systemd) -> tuple[Installed, ...]:
    """How each timer that is installed stands."""
    found: list[Installed] = []
    for file in _ours(systemd):
        if file.suffix == ".timer":
            timer = _show(systemd, file.name, "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
            service = _show(systemd, f"{file.stem}.service", "Result")
            found.append(
                Installed(
                    kind=UnitKind(file.stem.removeprefix("newhope-")),
                    file=file,
                    active=timer.get("ActiveState", "unknown"),
                    next_run=timer.get("NextElapseUSecRealtime", ""),
                    last_run=timer.get("LastTriggerUSec", ""),
                    last_result=service.get("Result", "") if timer.get("LastTriggerUSec") else "",
                )
            )
    return tuple(found)


def _ours(systemd: Systemd) -> list[Path]:
    names = [f"newhope-{kind}.{what}" for kind in UnitKind for what in ("timer", "service")]
    return [file for name in names if _has_mark(file := systemd.folder / name)]


def _has_mark(file: Path) -> bool:
    try:
        return file.read_text(errors="replace").startswith(MARK)
    except OSError:
        return False


def _refuse_foreign(file: Path) -> None:
    if file.is_symlink() or (file.exists() and not _has_mark(file)):
        raise Conflict(
            f"{file} is not from `newhope schedule install`.",
            untouched="It was not changed, and nothing was installed.",
            next_step=f"move it away (`mv {file} {file}.old`), then try again; drop-ins in {file}.d are kept.",
        )


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.write_bytes(content)
    unfinished.chmod(0o644)
    unfinished.replace(file)


def _put_back(systemd: Systemd, before: dict[Path, bytes | None]) -> None:
    # What refused before may refuse again, which is no reason to leave the rest undone.
    with suppress(ScheduleFailed):
        _stop(systemd, [file for file, content in before.items() if content is None])
    for file, content in before.items():
        if content is None:
            file.unlink(missing_ok=True)
        else:
            _write(file, content)
    with suppress(ScheduleFailed):
        _ask(systemd, "daemon-reload")
        _start(systemd, [file for file, content in before.items() if content is not None])


def _start(systemd: Systemd, files: Sequence[Path]) -> None:
    names = [file.name for file in files if file.suffix == ".timer"]
    if names:
        _ask(systemd, "enable", "--now", *names)
        # One that ran before goes by its old file until it is started anew.
        _ask(systemd, "restart", *names)


def _stop(systemd: Systemd, files: Sequence[Path]) -> None:
    names = [file.name for file in files if file.suffix == ".timer" and file.exists()]
    if names:
        _ask(systemd, "disable", "--now", *names)


def _ask(systemd: Systemd, verb: str, *units: str) -> None:
    done = _run(systemd, verb, *units)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise ScheduleFailed(
            f"`{' '.join([*systemd.command, verb, *units])}` failed: {said[-1] if said else 'it did not say why'}",
            next_step="see `journalctl -xe`.",
        )


def _show(systemd: Systemd, unit: str, *properties: str) -> dict[str, str]:
    done = _run(systemd, "show", unit, f"--property={','.join(properties)}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _run(systemd: Systemd, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*systemd.command, *words], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScheduleFailed(f"systemctl did not answer: {error}.", next_step="see `journalctl -xe`.") from error
