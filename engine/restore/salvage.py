"""A restore of what is left: ranges of disks that cannot be read any more become zeroes, and are named one by one.

Only on request (`--salvage`): a guest that finds zeroes where its data was may do harm with them. Everything else that
is handed out is checked against its name as ever. An NVRAM that is lost is left out, and the host makes a new one; a
definition, a kernel or an initial RAM disk cannot be done without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.repository import DataRun, FileRecord, Reader, RepositoryDamaged
from engine.restore.model import LostRange

SHOWN = 8


class Lost:
    """What a restore had to do without. For one thread."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[DataRun]] = {}

    def of_disk(self, target: str) -> Callable[[DataRun], None]:
        """What is told the lost ranges of a disk, in any order."""
        return self._ranges.setdefault(target, []).append

    def ranges(self) -> tuple[LostRange, ...]:
        """All of them, by disk, in order, neighbours joined."""
        return tuple(
            LostRange(target, run.offset, run.length) for target, runs in self._ranges.items() for run in _joined(runs)
        )


def file_or_none(reader: Reader, file: FileRecord, warnings: list[str]) -> bytes | None:
    """A boot file; None, with a warning, for an NVRAM that is lost."""
    try:
        return reader.file(file)
    except RepositoryDamaged:
        if file.role != "nvram":
            raise
        warnings.append("Its NVRAM is lost: the host made a new one, without the boot entries and keys it had.")
        return None


def warning(lost: tuple[LostRange, ...]) -> str:
    """What an operator must know of a VM that has zeroes where data was."""
    disks = sorted({each.disk for each in lost})
    lost_bytes = sum(each.length for each in lost)
    shown = ", ".join(f"{each.disk} {each.offset}+{each.length}" for each in lost[:SHOWN])
    more = f" and {len(lost) - SHOWN} more, all in its report" if len(lost) > SHOWN else ""
    return (
        f"{lost_bytes} bytes of {', '.join(disks)} were lost and are zeroes: {shown}{more}. "
        "Let the guest check its file systems before it is used."
    )


def _joined(runs: Iterable[DataRun]) -> list[DataRun]:
    joined: list[DataRun] = []
    for run in sorted(runs, key=lambda run: run.offset):
        if joined and joined[-1].offset + joined[-1].length == run.offset:
            joined[-1] = DataRun(joined[-1].offset, joined[-1].length + run.length)
        else:
            joined.append(run)
    return joined
