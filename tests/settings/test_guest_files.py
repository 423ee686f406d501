"""`[guest_files.NAME]`: read whole, written back the same, and every mistake told with its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import GuestFilesSection, Rules, Settings, SettingsError, guest_files_for, read_text, to_text

BASE = '[hosts.alderaan]\nuri = "qemu:///system"\n[repositories.vault]\npath = "/srv/vault"\n'
WHOLE = """
[guest_files.databases]
tags = ["postgres"]
paths = ["/etc", "C:\\\\data", "/var/backups/db.sql"]
exclude = ["*.tmp"]
before = ["pg_dumpall > /var/backups/db.sql"]
after = ["rm /var/backups/db.sql"]
every = "15m"
limit = "2GiB"
time_limit = "5m"

[guest_files.etc]
vms = ["*"]
paths = ["/etc"]
"""


def settings_of(text: str) -> Settings:
    return read_text(BASE + text, Path("/etc/newhope.toml"))


def test_a_section_is_read_and_written_back_the_same():
    settings = settings_of(WHOLE)

    assert settings.guest_files[0] == GuestFilesSection(
        name="databases",
        rules=Rules(tags=("postgres",)),
        paths=("/etc", "C:\\data", "/var/backups/db.sql"),
        exclude=("*.tmp",),
        before=("pg_dumpall > /var/backups/db.sql",),
        after=("rm /var/backups/db.sql",),
        every_s=900,
        limit_bytes=2 << 30,
        time_limit_s=300,
    )
    assert settings.guest_files[1].every_s is None
    assert read_text(to_text(settings), settings.file) == settings


def test_the_first_section_that_is_for_a_vm_is_its_own():
    settings = settings_of(WHOLE)

    assert guest_files_for(settings, "db", tags=["postgres"]) == settings.guest_files[0]
    assert guest_files_for(settings, "web") == settings.guest_files[1]
    assert guest_files_for(settings_of(""), "web") is None


@pytest.mark.parametrize(
    ("section", "key", "what", "fix"),
    [
        ('vms = ["*"]', "guest_files.x", 'no "paths"', 'paths = ["/etc"]'),
        ('vms = ["*"]\npaths = []', "guest_files.x.paths", "empty", 'paths = ["/etc"]'),
        ('vms = ["*"]\npaths = ["etc"]', "guest_files.x.paths[0]", "not an absolute path", '"/etc"'),
        ('vms = ["*"]\npaths = ["/"]', "guest_files.x.paths[0]", "whole guest", "what matters"),
        ('vms = ["*"]\npaths = ["/etc/../x"]', "guest_files.x.paths[0]", "no plain path", '".."'),
        ('paths = ["/etc"]', "guest_files.x", "for no VM", 'vms = ["*"]'),
        ('vms = ["*"]\npaths = ["/etc"]\nevery = 5', "guest_files.x.every", "without a unit", '"15m"'),
        ('vms = ["*"]\npaths = ["/etc"]\nlimit = "5"', "guest_files.x.limit", "not a size", '"2GiB"'),
        ('vms = ["*"]\npaths = ["/etc"]\nexcept = ["a"]', "guest_files.x.except", "no setting", "exclude"),
        ('hosts = ["aldera"]\npaths = ["/etc"]', "guest_files.x.hosts[0]", "no host", "alderaan"),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_to_write_instead(section: str, key: str, what: str, fix: str):
    with pytest.raises(SettingsError) as raised:
        settings_of(f"[guest_files.x]\n{section}\n")

    (problem,) = raised.value.problems
    assert problem.key == key
    assert what in problem.what
    assert fix in problem.fix
