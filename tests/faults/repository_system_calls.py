"""The system calls by which a repository changes its disk, counted, so that a test can stop the world at each of them.

`SystemCalls.install` puts a wrapper around each call in this process; what is stored, and in which order, stays real.
"""

from __future__ import annotations

import os
from collections.abc import Callable

CHANGING = ("open", "write", "writev", "fsync", "link", "unlink", "mkdir")
Call = Callable[..., object]
Hook = Callable[[int, str, tuple[object, ...], Call], object]
"""Number and name of a call, its arguments, and how to make it."""


class SystemCalls:
    """Calls that change files below a folder go through a hook; all others are made as they are."""

    def __init__(self, folder: str, hook: Hook) -> None:
        self.folder = folder
        self.hook = hook
        self.count = 0
        self.real: dict[str, Call] = {name: getattr(os, name) for name in CHANGING}

    def install(self) -> None:
        for name in CHANGING:
            setattr(os, name, self._wrapper(name))

    def remove(self) -> None:
        for name, call in self.real.items():
            setattr(os, name, call)

    def _wrapper(self, name: str) -> Call:
        real = self.real[name]

        def call(*arguments: object, **options: object) -> object:
            if not self._changes_something(name, arguments):
                return real(*arguments, **options)
            self.count += 1
            return self.hook(self.count, name, arguments, lambda: real(*arguments, **options))

        return call

    def _changes_something(self, name: str, arguments: tuple[object, ...]) -> bool:
        if name in ("write", "writev", "fsync"):
            return path_of(arguments[0]).startswith(self.folder)
        if name == "open" and not int(str(arguments[1])) & os.O_CREAT:
            return False
        return str(arguments[0]).startswith(self.folder)


def path_of(file: object) -> str:
    return os.readlink(f"/proc/self/fd/{file}")


def content_of(written: object) -> bytes:
    """What a call of `write` or `writev` was given."""
    return b"".join(written) if isinstance(written, list | tuple) else bytes(written)  # type: ignore[call-overload]
