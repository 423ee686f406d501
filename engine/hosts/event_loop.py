"""libvirt's event loop: one daemon thread for the process.

Keepalive needs it, and so does learning that a connection has died. It must be registered before the first connection
is opened, and it is never ended: libvirt has one loop a process, and a connection that outlives it hangs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

_LOG_OUTPUTS = "LIBVIRT_LOG_OUTPUTS"
_starting = threading.Lock()
_started = threading.Event()


def ensure_running() -> None:
    """Start the event loop, once; silence libvirt, which otherwise prints every error to the terminal."""
    with _starting:
        if _started.is_set():
            return
        with _quiet_log():
            import libvirt
        libvirt.registerErrorHandler(_say_nothing, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _started.set()


@contextmanager
def _quiet_log() -> Generator[None]:
    """libvirt's own log goes to stderr, a console's screen, from warnings on; it reads where to when it is loaded.

    Only for that moment: a session daemon that libvirt starts later must not inherit it. Whoever has set the variable
    wants to read the log, and may.
    """
    if _LOG_OUTPUTS in os.environ:
        yield
        return
    os.environ[_LOG_OUTPUTS] = "4:file:/dev/null"
    try:
        yield
    finally:
        del os.environ[_LOG_OUTPUTS]


def _say_nothing(_context: object, _error: object) -> None:
    return


def _run() -> None:
    import libvirt

    while True:
        libvirt.virEventRunDefaultImpl()
