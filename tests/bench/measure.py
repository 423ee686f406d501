"""Run commands in turn and say what each cost, as the operating system counted it."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one run cost."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    stored_mib: float


@dataclass
class Row:
    """One line of a table: how to run it, and what its runs cost."""

    name: str
    command: Callable[[Path], Sequence[str]]
    """Command line for a fresh, empty folder, in which the result is stored."""
    prepare: Callable[[Path], None] = lambda folder: None
    costs: list[Cost] = field(default_factory=list)

    def median(self, figure: str) -> float:
        """The middle value of one figure over all runs."""
        return statistics.median(getattr(cost, figure) for cost in self.costs)

    def run(self, folder: Path) -> None:
        """One run, measured from outside."""
        self.prepare(folder)
        begun = time.monotonic()
        process = subprocess.Popen(self.command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        peak = _PeakMemory(process.pid)
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{self.name} failed: {errors.decode(errors='replace')[-500:]}")
        stored = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
        self.costs.append(Cost(wall_s, usage.ru_utime + usage.ru_stime, peak.mib(), stored / 1024**2))


class _PeakMemory:
    """The most memory a process has had. Not `ru_maxrss`: that begins with what our own process had at the fork."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._kib = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mib(self) -> float:
        """In MiB, once the process has ended."""
        self._thread.join()
        return self._kib / 1024

    def _watch(self) -> None:
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            found = next((line for line in lines if line.startswith("VmHWM:")), None)
            if found is None:
                return
            self._kib = max(self._kib, int(found.split()[1]))
            time.sleep(0.02)


def table(title: str, rows: Sequence[Row], ours: Row) -> str:
    """The rows as a Markdown table, with each row's time as a multiple of ours."""
    lines = [
        f"### {title}",
        "",
        "| | wall s (min-max) | CPU s | peak MiB | stored MiB | time / newhope's |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        walls = [cost.wall_s for cost in row.costs]
        name = f"**{row.name}**" if row is ours else row.name
        lines.append(
            f"| {name} | {row.median('wall_s'):.2f} ({min(walls):.2f}-{max(walls):.2f}) | {row.median('cpu_s'):.1f}"
            f" | {row.median('peak_mib'):.0f} | {row.median('stored_mib'):.0f}"
            f" | {row.median('wall_s') / ours.median('wall_s'):.2f} |"
        )
    return "\n".join(lines) + "\n"
