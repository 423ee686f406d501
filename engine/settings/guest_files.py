"""`[guest_files.NAME]`: which files are kept from inside which guests, how often, and what is run before and after.

    [guest_files.databases]
    tags = ["postgres"]
    paths = ["/etc", "/var/backups/db.sql"]
    exclude = ["*.tmp", "/etc/ssl/private"]
    before = ["su postgres -c pg_dumpall > /var/backups/db.sql"]
    after = ["rm -f /var/backups/db.sql"]
    every = "15m"
    limit = "2GiB"

The first section in the file that is for a VM is the one that it has, as with levels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from engine.settings.byte_size import format_size
from engine.settings.duration import format_duration
from engine.settings.levels import matching_rule
from engine.settings.model import GuestFilesSection, Rules, Settings
from engine.settings.table import Complaints, Table

KEYS = ("vms", "hosts", "tags", "paths", "exclude", "before", "after", "every", "limit", "time_limit")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")


def read_section(name: str, table: Table, rules: Rules) -> GuestFilesSection:
    """Read one section; what is wrong stands at its default, and the table noted why."""
    table.only(KEYS)
    paths = table.texts("paths")
    if "paths" not in table.names():
        table.complain(None, f'"{name}" has no "paths".', 'Add paths = ["/etc"]: files and folders in the guest.')
    elif not paths and not table.complained("paths"):
        table.complain("paths", "It is empty.", 'Write paths = ["/etc"]: files and folders in the guest.')
    return GuestFilesSection(
        name=name,
        rules=rules,
        paths=tuple(path for number, path in paths if _is_path(table, number, path)),
        exclude=tuple(text for _, text in table.texts("exclude")),
        before=tuple(text for _, text in table.texts("before")),
        after=tuple(text for _, text in table.texts("after")),
        every_s=_optional_duration(table, "every"),
        limit_bytes=table.size("limit") or GuestFilesSection.DEFAULT_LIMIT_BYTES,
        time_limit_s=_optional_duration(table, "time_limit") or GuestFilesSection.DEFAULT_TIME_LIMIT_S,
    )


def check_sections(sections: Sequence[GuestFilesSection], complaints: Complaints) -> None:
    """A section that is for no VM keeps nothing, which nobody means."""
    for section in sections:
        path = ("guest_files", section.name)
        wrong = any(complaints.about((*path, key)) for key in ("vms", "hosts", "tags"))
        if section.rules == Rules() and not wrong:
            complaints.add(
                path,
                f'"{section.name}" is for no VM.',
                'Add vms = ["PATTERN"], hosts = ["PATTERN"] or tags = ["TAG"]; vms = ["*"] means all.',
            )


def guest_files_for(
    settings: Settings, name: str, *, host: str = "", tags: Iterable[str] = ()
) -> GuestFilesSection | None:
    """Return the section that a VM has: the first in the file that has a rule for it, else None."""
    carried = frozenset(tags)
    return next(
        (each for each in settings.guest_files if matching_rule(each.rules, name, host, carried) is not None), None
    )


def as_toml(section: GuestFilesSection) -> dict[str, object]:
    """The keys that `read_section` reads, without what is at its default."""
    default_limit = section.limit_bytes == GuestFilesSection.DEFAULT_LIMIT_BYTES
    default_time = section.time_limit_s == GuestFilesSection.DEFAULT_TIME_LIMIT_S
    return {
        "vms": list(section.rules.vms),
        "hosts": list(section.rules.hosts),
        "tags": list(section.rules.tags),
        "paths": list(section.paths),
        "exclude": list(section.exclude),
        "before": list(section.before),
        "after": list(section.after),
        "every": None if section.every_s is None else format_duration(section.every_s),
        "limit": None if default_limit else format_size(section.limit_bytes),
        "time_limit": None if default_time else format_duration(section.time_limit_s),
    }


def _is_path(table: Table, number: int, path: str) -> bool:
    if "\0" in path or ".." in re.split(r"[\\/]", path):
        table.complain_about_element("paths", number, f'"{path}" is no plain path.', 'Write it without ".." and NUL.')
    elif path.startswith("/") and path.strip("/"):
        return True
    elif path.strip("/") == "" and path.startswith("/"):
        table.complain_about_element(
            "paths", number, "It is the whole guest.", "Name what matters in it; a backup of the VM holds the rest."
        )
    elif _WINDOWS_PATH.match(path):
        return True
    else:
        what = f'"{path}" is not an absolute path in the guest.'
        table.complain_about_element("paths", number, what, f'Write it from the root on: "/{path}".')
    return False


def _optional_duration(table: Table, key: str) -> int | None:
    return table.duration(key, "15m") if key in table.names() else None
