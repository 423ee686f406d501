"""libvirt's event loop: one daemon thread for the process.

Keepalive needs it, and so does learning that a connection has died. It must be registered before the first connection
is opened, and it is never ended: libvirt has one loop a process, and a connection that outlives it hangs.
"""

from __future__ import annotations

import threading

_starting = threading.Lock()
_started = threading.Event()


def ensure_running() -> None:
    """Start the event loop, once; silence libvirt, which otherwise prints every error to the terminal."""
    if _started.is_set():
        return
    import libvirt

    with _starting:
        if _started.is_set():
            return
        libvirt.registerErrorHandler(_say_nothing, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _started.set()


def _say_nothing(_context: object, _error: object) -> None:
    return


def _run() -> None:
    import libvirt

    while True:
        libvirt.virEventRunDefaultImpl()
