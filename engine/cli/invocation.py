"""One call of the command: its options, and what it opens when a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.fleet import Fleet
    from engine.jobs import Journal
    from engine.settings import Settings


class Invocation:
    """What the common options said, and the settings once they were read."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.json = False
        self.plain = False
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings, read at the first use; raises `SettingsError`."""
        if self._settings is None:
            from engine.cli.settings_in_use import file_in_use
            from engine.settings import load

            file = file_in_use(self.config)
            if file != self.config:
                print(f"(no settings of your own yet; using the practice hosts': {file})", file=sys.stderr)  # noqa: T201
            self._settings = load(file)
        return self._settings

    @property
    def moves_cursor(self) -> bool:
        """Whether progress may redraw its line."""
        return sys.stdout.isatty() and not self.plain and not self.json and os.environ.get("TERM") != "dumb"

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer a question."""
        return sys.stdin.isatty() and not self.json

    def journal(self) -> Journal:
        """The job journal, a context manager."""
        from engine.jobs import Journal

        return Journal(self.settings.state)

    def fleet(self) -> Fleet:
        """Every host and repository as they answer now; a host that is silent now, as it answered last."""
        from engine.cli.passphrase_prompt import ask_for_what_is_missing
        from engine.fleet import gather, load_cache, save_cache
        from engine.hosts import HostLanes

        ask_for_what_is_missing(self.settings.repositories)
        previous = load_cache(self.settings.state)
        with HostLanes(self.settings) as lanes, self.patience("asking hosts and repositories"):
            fleet = gather(self.settings, lanes, previous=previous)
        save_cache(self.settings.state, fleet)
        return fleet

    @contextmanager
    def patience(self, doing: str) -> Generator[None]:
        """Say what takes its time, where that line can be taken away again."""
        if not (self.moves_cursor and sys.stderr.isatty()):
            yield
            return
        print(f"{doing} ...", end="", file=sys.stderr, flush=True)  # noqa: T201
        try:
            yield
        finally:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201
