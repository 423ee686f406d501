"""The three kinds of section in `newhope.toml`, each read into its struct."""

from __future__ import annotations

import re
from pathlib import Path

from engine.settings import bandwidth, object_storage, passphrase_source
from engine.settings.connection_uri import flaws
from engine.settings.model import Host, Keep, Level, Method, Repository
from engine.settings.table import Table


def read_host(name: str, table: Table) -> Host | None:
    """Read `[hosts.NAME]`; None if it cannot be used (the table noted why)."""
    table.only(("uri", "pool", "scratch", "places"))
    if "uri" not in table.names():
        fix = 'Add uri = "qemu:///system", or "qemu+ssh://root@HOST/system" for another machine.'
        table.complain(None, f'The host "{name}" has no "uri".', fix)
    uri = table.text("uri")
    for what, fix in flaws(uri) if uri is not None else ():
        table.complain("uri", what, fix)
    host = Host(
        name=name,
        uri=uri or "",
        places=table.words("places"),
        pool=table.text("pool"),
        scratch=table.folder("scratch"),
    )
    return host if uri is not None else None


def read_repository(name: str, table: Table, folder: Path) -> Repository | None:
    """Read `[repositories.NAME]`; `folder` holds the settings file. None if it cannot be used."""
    own = ("path", "on_host", "places")
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
    )
    return repository if path is not None else None


def read_level(name: str, table: Table) -> Level:
    """Read `[levels.NAME]`; what is wrong stands at its default, and the table noted why."""
    table.only(("rpo", "rto", "method", "copies", "vms", "default", "keep"))
    rpo_s = table.duration("rpo", "4h")
    rto_s = table.duration("rto", "1h")
    method = table.choice("method", (method.value for method in Method))
    patterns = tuple(pattern for number, pattern in table.texts("vms") if _can_match(table, number, pattern))
    return Level(
        name=name,
        rpo_s=rpo_s or 1,
        rto_s=rto_s or 1,
        method=Method(method) if method else Method.HOT,
        copies=table.count("copies") or 1,
        vms=patterns,
        default=table.flag("default") or False,
        keep=_read_keep(table),
    )


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


def _can_match(table: Table, number: int, pattern: str) -> bool:
    # A shell pattern without its closing bracket matches only that bracket itself, which nobody means.
    open_bracket = "[" in re.sub(r"\[!?\]?[^\]]*\]", "", pattern)
    if open_bracket:
        what, fix = (
            f'"{pattern}" has a "[" that is not closed.',
            'Close it, as in "web-[12]", or write "[[]" for itself.',
        )
    elif "/" in pattern or any(ord(character) < 32 for character in pattern):
        what, fix = f'"{pattern}" matches nothing: no VM can have such a name.', 'Remove the "/" or control character.'
    elif pattern != pattern.strip():
        what, fix = f'"{pattern}" begins or ends with a space, so it matches nothing.', "Remove the space."
    else:
        return True
    table.complain_about_element("vms", number, what, fix)
    return False
