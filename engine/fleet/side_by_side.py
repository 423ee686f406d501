"""Several slow questions at once, none of which may hold up the others.

Each question has a daemon thread of its own. One that exceeds the common time limit (a stat on a dead network file
system cannot be interrupted) is left behind; its thread ends if its answer ever comes, and goes down with the process
if not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def ask_all(
    questions: Mapping[str, Callable[[], T]], *, timeout_s: float, longer: Mapping[str, float] | None = None
) -> dict[str, T]:
    """Return the answers that came in time, by the names of their questions; `longer` has limits of some, in seconds.

    What a question raises is raised here, once all others are answered or out of time.
    """
    answers: queue.SimpleQueue[tuple[str, T | None, BaseException | None]] = queue.SimpleQueue()

    def ask(name: str, question: Callable[[], T]) -> None:
        try:
            answers.put((name, question(), None))
        except BaseException as error:
            answers.put((name, None, error))

    for name, question in questions.items():
        threading.Thread(target=ask, args=(name, question), name=f"ask-{name}", daemon=True).start()
    begun = time.monotonic()
    deadlines = {name: begun + (longer or {}).get(name, timeout_s) for name in questions}
    found: dict[str, T] = {}
    failure: BaseException | None = None
    while deadlines:
        try:
            name, answer, error = answers.get(timeout=max(0.0, max(deadlines.values()) - time.monotonic()))
        except queue.Empty:
            break
        del deadlines[name]
        if error is not None:
            failure = failure or error
        else:
            found[name] = answer  # pyright: ignore[reportArgumentType]  # an answer without error is a T
    if failure is not None:
        raise failure
    return found
