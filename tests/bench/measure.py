"""Run commands in turn and say what each cost, as the operating system counted it.

All rows are treated alike: what they read lies in the page cache, nothing is waiting to be written when they begin, and
their time ends when what they wrote lies on the disk, whether they asked for that themselves or not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024**2
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What one run cost."""

    wall_s: float
    cpu_s: float
    """Of the program, and of the server that it reads from."""
    peak_mib: float
    stored_mib: float
    """What it added to its folder."""


@dataclass
class Row:
    """One line of a table: how to run it, and what its runs cost."""

    name: str
    command: Callable[[Path], Sequence[str]]
    """Command line for a folder of its own, in which it runs and its result is stored."""
    environment: Callable[[Path], Mapping[str, str]] = lambda folder: {}
    begin_with: Path | None = None
    """A folder that it begins with a copy of; otherwise with an empty one."""
    prepare: Callable[[Path], None] = lambda folder: None
    costs: list[Cost] = field(default_factory=list)
    failure: str = ""
    """Why it is not run any more."""

    def median(self, figure: str) -> float:
        """The middle value of one figure over all runs; not a number if there is none."""
        return statistics.median(getattr(cost, figure) for cost in self.costs) if self.costs else float("nan")

    def spread(self, figure: str) -> str:
        """Lowest and highest value."""
        values = [getattr(cost, figure) for cost in self.costs]
        return f"{min(values):.2f}-{max(values):.2f}"

    def run(self, folder: Path, limit_s: float) -> None:
        """One run in a folder that does not exist yet, measured from outside."""
        if self.begin_with is None:
            folder.mkdir()
        else:
            copy_repository(self.begin_with, folder)
        self.prepare(folder)
        command, environment = self.command(folder), {**os.environ, **self.environment(folder)}
        stored_mib = _taken_mib(folder)
        _write_out(folder)
        begun, served_s = time.monotonic(), _served_s()
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        watched = _Watched(process, limit_s)
        usage = watched.wait()
        _write_out(folder)
        wall_s = time.monotonic() - begun
        if process.returncode != 0:
            reason = f"it took longer than {limit_s:.0f} s" if watched.too_long else watched.errors[-500:]
            raise RuntimeError(f"{self.name} failed: {reason}")
        cpu_s = usage.ru_utime + usage.ru_stime + _served_s() - served_s
        self.costs.append(Cost(wall_s, cpu_s, watched.peak_kib / 1024, _taken_mib(folder) - stored_mib))


class _Watched:
    """A process at work: the most memory it has had, what it said, and its end if it takes too long.

    Not `ru_maxrss` for the memory: that begins with what our own process had at the fork.
    """

    def __init__(self, process: subprocess.Popen[bytes], limit_s: float) -> None:
        self._process = process
        self._ends = time.monotonic() + limit_s
        self._over = threading.Event()
        self.peak_kib = 0
        self.too_long = False
        self.errors = ""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def wait(self) -> os.struct_rusage:  # pyright: ignore[reportAttributeAccessIssue]
        assert self._process.stderr is not None
        self.errors = self._process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(self._process.pid, 0)
        self._over.set()
        self._thread.join()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            # Of a shell that runs several programs at once, theirs together count.
            watched = _children(self._process.pid) if self._process.args[0] == "sh" else [self._process.pid]
            self.peak_kib = max(self.peak_kib, sum(_peak_kib(pid) for pid in watched))
            if time.monotonic() > self._ends and not self.too_long:
                self.too_long = True
                self._process.kill()


def _peak_kib(pid: int) -> int:
    """The most memory that a process has had; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def run_rows(
    rows: Sequence[Row], folder: Path, rounds: int, *, limit_s: float, until: float, warm: Sequence[Path]
) -> int:
    """Run all rows in turn, `rounds` times or until the time is over (once at least); how many rounds there were.

    A row that fails is left out from then on, and its line says so.
    """
    for number in range(rounds):
        if number and time.monotonic() > until:
            return number
        for file in warm:
            _read(file)
        for row in rows:
            if row.failure:
                continue
            target = folder / "result"
            try:
                row.run(target, limit_s)
                told = f"{row.costs[-1].wall_s:.2f} s"
            except (RuntimeError, OSError, subprocess.CalledProcessError) as failure:
                row.failure = told = str(failure).strip() or type(failure).__name__
            finally:
                shutil.rmtree(target, ignore_errors=True)
            print(f"round {number + 1} of {rounds}: {row.name}: {told}", file=sys.stderr, flush=True)
    return rounds


def copy_repository(source: Path, target: Path) -> None:
    """A copy that shares its large files, which no program of the bench ever changes (each makes new ones)."""

    def copy(file: str, to: str) -> str:
        if Path(file).stat().st_size >= MIB and {"data", "packs"} & set(Path(file).parts):
            os.link(file, to)
            return to
        return shutil.copy2(file, to)

    shutil.copytree(source, target, copy_function=copy)


def _write_out(folder: Path) -> None:
    subprocess.run(["sync", "--file-system", folder], check=True)


def _read(file: Path) -> None:
    """Have a file in the page cache."""
    buffer = bytearray(MIB)
    with file.open("rb", buffering=0) as opened:
        end = 0
        while True:
            try:
                begin = os.lseek(opened.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(opened.fileno(), begin, os.SEEK_HOLE)
            for offset in range(begin, end, MIB):
                os.preadv(opened.fileno(), [buffer], offset)


def _taken_mib(folder: Path) -> float:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / MIB


def _served_s() -> float:
    """What the servers that this process started have used of the processors."""
    used = 0.0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            try:
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            except OSError:
                continue
            if name.endswith("(qemu-nbd"):
                fields = rest.split()
                used += (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def table(title: str, rows: Sequence[Row], rounds: int) -> str:
    """The rows as a Markdown table, the first one ours, with each row's time as a multiple of ours."""
    ours = rows[0]
    lines = [
        f"**{title}** (medians of {rounds})",
        "",
        "| | wall s (min-max) | CPU s | peak MiB | stored MiB | time / newhope's |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"**{row.name}**" if row.name.startswith("newhope") else row.name
        if row.failure or not row.costs:
            lines.append(f"| {name} | {(row.failure or 'not run').splitlines()[-1][:120]} | | | | |")
            continue
        lines.append(
            f"| {name} | {row.median('wall_s'):.2f} ({row.spread('wall_s')}) | {row.median('cpu_s'):.1f}"
            f" | {row.median('peak_mib'):.0f} | {row.median('stored_mib'):.0f}"
            f" | {row.median('wall_s') / ours.median('wall_s'):.2f} |"
        )
    return "\n".join(lines) + "\n"
