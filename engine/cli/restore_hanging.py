"""What `newhope restores show` says of an instant restore whose disks are not in their place yet."""

from __future__ import annotations

from engine.restore import Entry, GuestNow, Hanging


def facts_of(entry: Entry, hangs: Hanging) -> list[tuple[str, str]]:
    """Its disks, its server, and what its guest does; what to do is a fact of its own beside them."""
    name = entry.request.name
    disks = ", ".join(hangs.disks)
    server = (
        f"process {hangs.server.pid} serves the recovery point at {hangs.socket}"
        if hangs.server.runs
        else "NONE: it has died. Nothing is damaged by that. Its job starts it again, or `newhope restores resume`"
    )
    guests = {
        GuestNow.RUNS: "runs" if hangs.server.runs else "runs, until it needs a block that only the server has",
        GuestNow.STOPPED: "PAUSED: a disk could not be read or written. Nothing that it wrote is lost",
        GuestNow.PAUSED: "paused by somebody",
        GuestNow.OFF: "off",
        GuestNow.MISSING: f"{name} is not on {entry.request.to_host} any more",
        GuestNow.UNKNOWN: f"not known: {entry.request.to_host} does not answer",
    }
    facts = [("not moved yet", f"{disks}: needs this machine and repository {entry.request.repository}")]
    facts += [("server", server), ("guest", guests[hangs.guest])]
    return facts + [("server said", line) for line in hangs.server.said]
