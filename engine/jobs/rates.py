"""How fast bytes move and how long it will still take, from what a reader has seen; no clock, no I/O."""

from __future__ import annotations

from msgspec import Struct

WINDOW_S = 10.0


class Sample(Struct, frozen=True):
    """How many bytes were done at a moment."""

    time_s: float
    done_bytes: int


class RateMeter(Struct, frozen=True):
    """The samples of the last seconds; each new one makes a new meter."""

    samples: tuple[Sample, ...] = ()
    changed_s: float | None = None
    """When the number of bytes last changed."""

    def seen(self, time_s: float, done_bytes: int) -> RateMeter:
        """The meter after one more look. Fewer bytes than before mean a new start."""
        last = self.samples[-1] if self.samples else None
        if last is not None and done_bytes < last.done_bytes:
            return RateMeter((Sample(time_s, done_bytes),), time_s)
        moved = last is None or done_bytes > last.done_bytes
        recent = [sample for sample in self.samples if sample.time_s >= time_s - WINDOW_S]
        # One sample from before the window keeps the mean honest when looks are rare.
        older = self.samples[: len(self.samples) - len(recent)][-1:]
        kept = (*(older if len(recent) < 2 else ()), *recent, Sample(time_s, done_bytes))
        return RateMeter(kept, time_s if moved else self.changed_s)

    @property
    def bytes_per_s(self) -> float | None:
        """Mean over the window; None until there are two looks apart in time."""
        if len(self.samples) < 2:
            return None
        first, last = self.samples[0], self.samples[-1]
        if last.time_s <= first.time_s:
            return None
        return (last.done_bytes - first.done_bytes) / (last.time_s - first.time_s)

    def seconds_left(self, total_bytes: int) -> float | None:
        """Time until `total_bytes` at this rate; None where nothing moves or nothing is known."""
        rate = self.bytes_per_s
        if not rate or not self.samples or total_bytes <= 0:
            return None
        return max(0.0, (total_bytes - self.samples[-1].done_bytes) / rate)

    def quiet_s(self, now_s: float) -> float:
        """For how long no byte has moved."""
        return 0.0 if self.changed_s is None else max(0.0, now_s - self.changed_s)
