"""A `newhope` that is killed after its n-th call to libvirt: `python killed_after_libvirt_call.py N RECORD ARG...`.

Instead of a number, N may be the name of a call: it is killed after the first of that name.

Only calls that may change something count: after one that merely reads, the host is as it was after the one before. The
name of the last call is written to RECORD; without that file the command came to its own end. It counts below
libvirt's Python classes, at the functions of its C module, so newhope itself knows nothing of it.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

READS = re.compile(
    r"virEvent|virGet|virInit|virConnect|virNode|virReset|virCopy|virRegister"
    r"|.*(Get[A-Z]|Lookup|List|Is[A-Z]|Has[A-Z]|Num[A-Z]|Free$|Ref$|Info$|State$|Stats$|Capabilities)"
)


class CountedCalls:
    """libvirt's C module, but for the end after a number of calls."""

    def __init__(self, module: Any, kill_after: str, record: Path) -> None:
        self._module = module
        self._left = int(kill_after) if kill_after.isdecimal() else 0
        self._name = kill_after
        self._record = record
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        found = getattr(self._module, name)
        if not name.startswith("vir") or READS.match(name):
            return found
        return self._counted(name, found)

    def _counted(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            result = function(*arguments)
            with self._lock:
                self._left -= 1
                if self._left == 0 or name == self._name:
                    self._record.write_text(name)
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def main() -> None:
    """Count, and be newhope."""
    import libvirt

    counted = CountedCalls(libvirt.libvirtmod, sys.argv[1], Path(sys.argv[2]))
    libvirt.libvirtmod = counted
    sys.argv = ["newhope", *sys.argv[3:]]
    from engine.cli.main import main as newhope

    sys.exit(newhope())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
