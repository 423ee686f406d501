"""The kinds of section in `newhope.toml`, each read into its struct."""

from __future__ import annotations

import re
from pathlib import Path

from engine.settings import bandwidth, guest_checks, object_storage, passphrase_source
from engine.settings.connection_uri import flaws
from engine.settings.model import (
    DEFAULT_SCRATCH_FLOOR_BYTES,
    SHUTDOWN_TIMEOUT_S,
    Host,
    Keep,
    Level,
    Method,
    Repository,
    Rules,
)
from engine.settings.table import Table

_RULES = ("vms", "hosts", "tags")


def read_host(name: str, table: Table) -> Host | None:
    """Read `[hosts.NAME]`; None if it cannot be used (the table noted why)."""
    table.only(("uri", "pool", "scratch", "scratch_floor", "ssh_config", "places", "backups_at_once"))
    if "uri" not in table.names():
        fix = 'Add uri = "qemu:///system", or "qemu+ssh://root@HOST/system" for another machine.'
        table.complain(None, f'The host "{name}" has no "uri".', fix)
    uri = table.text("uri")
    for what, fix in flaws(uri) if uri is not None else ():
        table.complain("uri", what, fix)
    floor = table.size("scratch_floor")
    host = Host(
        name=name,
        uri=uri or "",
        places=table.words("places"),
        pool=table.text("pool"),
        scratch=table.folder("scratch"),
        scratch_floor_bytes=DEFAULT_SCRATCH_FLOOR_BYTES if floor is None else floor,
        ssh_config=table.folder("ssh_config"),
        backups_at_once=table.count("backups_at_once") or 1,
    )
    return host if uri is not None else None


def read_repository(name: str, table: Table, folder: Path) -> Repository | None:
    """Read `[repositories.NAME]`; `folder` holds the settings file. None if it cannot be used."""
    own = ("path", "on_host", "places", "backups_at_once", "allow_plain")
    keys = (*own, *object_storage.KEYS, *passphrase_source.KEYS, *bandwidth.KEYS)
    table.only(keys, apart_from=passphrase_source.SECRETS)
    if "path" not in table.names():
        table.complain(None, f'The repository "{name}" has no "path".', 'Add path = "/srv/newhope".')
    path, storage = object_storage.read_place(table, folder)
    passphrase_file, passphrase_command = passphrase_source.read_source(table)
    repository = Repository(
        name=name,
        path=path or Path("/"),
        places=table.words("places"),
        on_host=table.text("on_host"),
        object_storage=storage,
        passphrase_file=passphrase_file,
        passphrase_command=passphrase_command,
        bandwidth=bandwidth.read_bandwidth(table),
        backups_at_once=table.count("backups_at_once") or 2,
        allow_plain=table.flag("allow_plain") or False,
    )
    return repository if path is not None else None


def read_level(name: str, table: Table) -> Level:
    """Read `[levels.NAME]`; what is wrong stands at its default, and the table noted why."""
    own = ("rpo", "rto", "method", "shutdown_timeout", "hot_if_ignored", "copies", "default", "keep", "prove_every")
    table.only((*own, *_RULES, guest_checks.KEY))
    rpo_s = table.duration("rpo", "4h")
    rto_s = table.duration("rto", "1h")
    method = table.choice("method", (method.value for method in Method))
    waits_s = table.duration("shutdown_timeout", "3m") if "shutdown_timeout" in table.names() else None
    rules = read_rules(table)
    return Level(
        name=name,
        rpo_s=rpo_s or 1,
        rto_s=rto_s or 1,
        method=Method(method) if method else Method.HOT,
        shutdown_timeout_s=waits_s or SHUTDOWN_TIMEOUT_S,
        hot_if_ignored=table.flag("hot_if_ignored") or False,
        copies=table.count("copies") or 1,
        vms=rules.vms,
        hosts=rules.hosts,
        tags=rules.tags,
        default=table.flag("default") or False,
        keep=_read_keep(table),
        prove_every_s=table.duration("prove_every", "7d") if "prove_every" in table.names() else None,
        checks=guest_checks.read_checks(table),
    )


def read_exclude(top: Table) -> Rules:
    """Read `[exclude]`: the VMs that are not to be protected."""
    how = 'Write a section [exclude] with vms = ["PATTERN"], hosts = ["PATTERN"] or tags = ["TAG"].'
    table = top.table("exclude", how)
    if table is None:
        return Rules()
    table.only(_RULES)
    if not table.names():
        top.complain("exclude", "It excludes nothing.", f"{how} Or remove it.")
    return read_rules(table)


def read_rules(table: Table) -> Rules:
    """Read `vms`, `hosts` and `tags`: which VMs a section is for."""
    return Rules(
        vms=tuple(text for number, text in table.texts("vms") if _can_match(table, "vms", number, text)),
        hosts=tuple(text for number, text in table.texts("hosts") if _can_match(table, "hosts", number, text)),
        tags=tuple(text for number, text in table.texts("tags") if _can_be_tag(table, number, text)),
    )


def _can_be_tag(table: Table, number: int, tag: str) -> bool:
    if not re.search(r"[\s,]", tag):
        return True
    what = f'"{tag}" is no tag: white space and commas separate tags.'
    table.complain_about_element("tags", number, what, 'Write each tag by itself: tags = ["gold", "database"].')
    return False


def _read_keep(level: Table) -> Keep | None:
    how = "Write keep = { last = 7, daily = 14, weekly = 8, monthly = 12, yearly = 3 }."
    table = level.table("keep", how)
    if table is None:
        return None
    names = Keep.__struct_fields__
    table.only(names)
    if not table.names():
        # Taken at its word it would drop all but the newest point of every VM of this level.
        level.complain("keep", "It is empty, so it keeps nothing.", f"{how} Without keep, every point is kept.")
    return Keep(**{name: table.count(name) or 0 for name in names})


def _can_match(table: Table, key: str, number: int, pattern: str) -> bool:
    # A shell pattern without its closing bracket matches only that bracket itself, which nobody means.
    open_bracket = "[" in re.sub(r"\[!?\]?[^\]]*\]", "", pattern)
    if open_bracket:
        what, fix = (
            f'"{pattern}" has a "[" that is not closed.',
            'Close it, as in "web-[12]", or write "[[]" for itself.',
        )
    elif "/" in pattern or any(ord(character) < 32 for character in pattern):
        what, fix = f'"{pattern}" matches nothing: none can have such a name.', 'Remove the "/" or control character.'
    elif pattern != pattern.strip():
        what, fix = f'"{pattern}" begins or ends with a space, so it matches nothing.', "Remove the space."
    else:
        return True
    table.complain_about_element(key, number, what, fix)
    return False
