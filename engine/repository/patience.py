"""How long a storage that does not answer is asked again: with pauses that grow and vary, and with an end.

Pauses vary at random, so that many workers that were refused at one moment do not come back at one moment
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from msgspec import Struct


class Patience(Struct, frozen=True):
    """How often and how long something is tried again."""

    first_pause_s: float = 0.2
    longest_pause_s: float = 20.0
    give_up_after_s: float = 180.0
    """From the first failure on; no try begins later than that."""
    most_tries: int = 12

    def pause_s(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Pause after so many failures in a row: between half and all of a time that doubles."""
        whole = min(self.longest_pause_s, self.first_pause_s * 2 ** (failures - 1))
        return whole * (0.5 + chance() / 2)


class Tries:
    """The failures in a row of one piece of work. For one thread."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since: float | None = None
        self.failures = 0

    @property
    def lasted_s(self) -> float:
        """How long nothing has gone on."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def succeeded(self) -> None:
        """Start anew: something went on."""
        self._since = None
        self.failures = 0

    def wait(self) -> bool:
        """After a failure: pause and return True, or return False when it is time to stop."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self.failures += 1
        pause_s = self._patience.pause_s(self.failures)
        over = now + pause_s - self._since > self._patience.give_up_after_s
        if over or self.failures >= self._patience.most_tries:
            return False
        time.sleep(pause_s)
        return True


NO_PATIENCE = Patience(most_tries=1)
