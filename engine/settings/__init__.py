"""What the operator wrote in `newhope.toml`, as typed values; and every mistake in it, at once.

1. Find the file: `--config`, then `$NEWHOPE_CONFIG`, then `$XDG_CONFIG_HOME/newhope/newhope.toml` (`location`).
2. Parse it as TOML; a syntax error ends here, with its line (`reading`).
3. Read each table into a frozen struct. What is wrong is noted with dotted key, line and fix, and reading goes on,
   so that one look shows every problem (`table`, `sections`). Lines come from a scan of the text (`key_lines`),
   because tomllib keeps none.
4. Check what only shows in the whole: two default levels, patterns that another level shadows, an `on_host` that
   names no host, two names for one host or repository (`cross_checks`).
5. Any problem at all raises one `SettingsError`; no half-read settings leave this package.

Writing goes the other way through the same door: `save` refuses what `load` would not read back (`writing`).

May import: `engine.errors` alone.
"""

from engine.settings.bandwidth import UNLIMITED, InvalidRate, format_rate, limit_at, parse_rate
from engine.settings.byte_size import InvalidSize, format_size, parse_size
from engine.settings.duration import InvalidDuration, format_duration, parse_duration
from engine.settings.find import find_host, find_repository, repository_at
from engine.settings.first_settings import named_host, propose
from engine.settings.guest_files import guest_files_for
from engine.settings.levels import exclusion_of, level_for
from engine.settings.location import default_file, default_state
from engine.settings.model import (
    Bandwidth,
    BandwidthHours,
    CommandCheck,
    FileCheck,
    GuestCheck,
    GuestFilesSection,
    Host,
    Keep,
    Level,
    Method,
    ObjectStorage,
    PortCheck,
    Repository,
    Rules,
    Settings,
)
from engine.settings.problem import Problem, SettingsError
from engine.settings.reading import load, read_text
from engine.settings.writing import save, to_text

__all__ = [
    "UNLIMITED",
    "Bandwidth",
    "BandwidthHours",
    "CommandCheck",
    "FileCheck",
    "GuestCheck",
    "GuestFilesSection",
    "Host",
    "InvalidDuration",
    "InvalidRate",
    "InvalidSize",
    "Keep",
    "Level",
    "Method",
    "ObjectStorage",
    "PortCheck",
    "Problem",
    "Repository",
    "Rules",
    "Settings",
    "SettingsError",
    "default_file",
    "default_state",
    "exclusion_of",
    "find_host",
    "find_repository",
    "format_duration",
    "format_rate",
    "format_size",
    "guest_files_for",
    "level_for",
    "limit_at",
    "load",
    "named_host",
    "parse_duration",
    "parse_rate",
    "parse_size",
    "propose",
    "read_text",
    "repository_at",
    "save",
    "to_text",
]
