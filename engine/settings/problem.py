"""A problem in the settings, and the error that carries all of them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError


class Problem(Struct, frozen=True):
    """One thing that is wrong in a settings file."""

    key: str
    """Dotted key, `hosts.alderaan.uri`; empty where the whole file is meant."""
    line: int | None
    """Line in the file, from 1; None where no line is to blame."""
    what: str
    fix: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.key) if part)
        return f"{where}: {self.what} {self.fix}" if where else f"{self.what} {self.fix}"


class SettingsError(NewhopeError):
    """The settings cannot be used; `problems` are all that was found, in the order of the file."""

    exit_code: ClassVar[ExitCode] = ExitCode.SETTINGS

    def __init__(self, file: Path, problems: tuple[Problem, ...], *, next_step: str | None = None) -> None:
        if len(problems) == 1:
            what = f"The settings in {file} cannot be used: {problems[0].what}"
            where = str(Problem(problems[0].key, problems[0].line, "", "")).rstrip(": ")
            if where:
                what = f"The settings in {file} cannot be used. {where[0].upper()}{where[1:]}: {problems[0].what}"
            fix = problems[0].fix
        else:
            lines = "\n".join(f"  {problem}" for problem in problems)
            what = f"The settings in {file} cannot be used: {len(problems)} problems.\n{lines}\n"
            fix = f"correct these places in {file} and run the command again."
        super().__init__(what, next_step=next_step or fix)
        self.file = file
        self.problems = problems
