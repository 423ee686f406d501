"""From `Settings` to `newhope.toml`, so that a crash leaves the old file or the new one, never half of either."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tomli_w
from msgspec.structs import asdict

from engine.settings import bandwidth, guest_checks, guest_files
from engine.settings.byte_size import format_size
from engine.settings.duration import format_duration
from engine.settings.location import default_state
from engine.settings.model import (
    DEFAULT_SCRATCH_FLOOR_BYTES,
    SHUTDOWN_TIMEOUT_S,
    Host,
    Keep,
    Level,
    Repository,
    Rules,
    Settings,
)
from engine.settings.problem import Problem, SettingsError
from engine.settings.reading import read_text

_HEADER = """\
# Settings of newhope. After a change, any `newhope` command names every mistake in it, with its line.

"""


def save(settings: Settings, file: Path) -> None:
    """Write the settings to `file`, readable by its owner only; raises `SettingsError` where `load` would.

    Also raises it when the file cannot be written. A symbolic link stays one: the file behind it is replaced.
    """
    text = to_text(settings)
    read_text(text, file.absolute())
    target = file.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(target, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        problem = Problem("", None, f"The file cannot be written: {reason}.", "Make room or allow it, and try again.")
        raise SettingsError(file, (problem,)) from error


def to_text(settings: Settings) -> str:
    """Return the settings as TOML, without what is at its default."""
    document: dict[str, object] = {}
    if settings.state != default_state():
        document["state"] = str(settings.state)
    sections = {
        "hosts": {host.name: _host(host) for host in settings.hosts},
        "repositories": {repository.name: _repository(repository) for repository in settings.repositories},
        "levels": {level.name: _level(level) for level in settings.levels},
        "exclude": _rules(settings.exclude),
        "guest_files": {each.name: _given(guest_files.as_toml(each)) for each in settings.guest_files},
    }
    document |= {name: entries for name, entries in sections.items() if entries}
    return _HEADER + tomli_w.dumps(document)


def _host(host: Host) -> dict[str, object]:
    scratch = None if host.scratch is None else str(host.scratch)
    floor = host.scratch_floor_bytes
    ssh_config = None if host.ssh_config is None else str(host.ssh_config)
    return _given(
        {
            "uri": host.uri,
            "pool": host.pool,
            "scratch": scratch,
            "scratch_floor": None if floor == DEFAULT_SCRATCH_FLOOR_BYTES else format_size(floor),
            "ssh_config": ssh_config,
            "places": host.places,
            "backups_at_once": _unless(host.backups_at_once, 1),
        }
    )


def _repository(repository: Repository) -> dict[str, object]:
    storage = repository.object_storage
    place: dict[str, object] = {"path": str(repository.path)}
    if storage is not None:
        place = {"path": storage.url, "endpoint": storage.endpoint}
        place |= {"region": storage.region, "profile": storage.profile}
    file = repository.passphrase_file
    source = {
        "passphrase_file": None if file is None else str(file),
        "passphrase_command": list(repository.passphrase_command),
    }
    rest = {"on_host": repository.on_host, **source, "places": repository.places}
    return _given(
        {**place, **rest, **bandwidth.as_toml(repository), "backups_at_once": _unless(repository.backups_at_once, 2)}
        | {"allow_plain": repository.allow_plain or None}
    )


def _level(level: Level) -> dict[str, object]:
    durations = {"rpo": format_duration(level.rpo_s), "rto": format_duration(level.rto_s)}
    waits = level.shutdown_timeout_s
    cold = {
        "shutdown_timeout": None if waits == SHUTDOWN_TIMEOUT_S else format_duration(waits),
        "hot_if_ignored": level.hot_if_ignored or None,
    }
    rest = {"method": level.method.value, **cold, "copies": level.copies, **_rules(level.rules)}
    proofs = {
        "prove_every": None if level.prove_every_s is None else format_duration(level.prove_every_s),
        guest_checks.KEY: [_given(guest_checks.as_toml(check)) for check in level.checks],
    }
    return _given({**durations, **rest, "default": level.default or None, "keep": _keep(level.keep), **proofs})


def _rules(rules: Rules) -> dict[str, object]:
    return _given({"vms": list(rules.vms), "hosts": list(rules.hosts), "tags": list(rules.tags)})


def _unless(value: int, default: int) -> int | None:
    return None if value == default else value


def _keep(keep: Keep | None) -> dict[str, int]:
    return {} if keep is None else {name: count for name, count in asdict(keep).items() if count}


def _given(entries: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in entries.items() if value is not None and value not in ({}, [])}


def _replace(target: Path, content: bytes) -> None:
    descriptor, temporary_name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # made with mode 0600
    temporary = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
